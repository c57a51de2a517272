// Causal attention for libtorch:
//
//   out = softmax(scale * q k^T) v
//
// where a query sees itself and the keys before it in its own document, or the nearest of them. Queries may be another
// part of a sequence than the keys. Neither a mask nor logits of [Sq, Sk] are ever in memory. Differentiable once. The
// same bits every run, whatever the number of threads. Importing this library also registers
// torch.ops.longfold.causal_attention and its backward.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "longfold/ops/export.h"

namespace longfold::ops {

struct CausalAttentionOptions {
  // int64 on the CPU, as the cu_seqlens of others: where each document begins, then B * S, where Sq = Sk = S. Token s
  // of row b is token b * S + s; no document spans two rows. None: each row is one document.
  std::optional<at::Tensor> documents = {};
  int64_t window = 0;                // keys that a query sees at most, itself among them; 0: no limit
  std::optional<double> scale = {};  // none: D^-1/2
  // Place of the first query among the keys: query s sees keys 0 to min(first_query + s, Sk - 1). Where it is not 0, or
  // Sq is not Sk, each row is one document and there is no window.
  int64_t first_query = 0;
};

struct CausalAttentionResult {
  at::Tensor out;          // [B, Sq, H, D], dtype of q
  at::Tensor log_sum_exp;  // [B, H, Sq], fp32 (fp64 for fp64 inputs); has no gradient
};

// q [B, Sq, H, D]; k and v [B, Sk, KV heads, D], where KV heads divide H; any strides; fp32, bf16, fp16 or fp64, on the
// CPU. B and Sq may be 0. Throws c10::Error with one line "[causal_attention] expected ..., got ...".
[[nodiscard]] LONGFOLD_OPS_EXPORT CausalAttentionResult causal_attention_with_log_sum_exp(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const CausalAttentionOptions& options = {});

[[nodiscard]] LONGFOLD_OPS_EXPORT at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k,
                                                              const at::Tensor& v,
                                                              const CausalAttentionOptions& options = {});

struct CausalAttentionGradients {
  at::Tensor q, k, v;  // shaped and typed as q, k and v
};

// The gradients by q, k and v, from what the forward pass gave; for whoever keeps that himself. Not differentiable.
[[nodiscard]] LONGFOLD_OPS_EXPORT CausalAttentionGradients
causal_attention_backward(const at::Tensor& grad_out, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          const CausalAttentionResult& result, const CausalAttentionOptions& options = {});

}  // namespace longfold::ops
