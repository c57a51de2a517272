// Evoformer attention for libtorch:
//
//   out = softmax(scale * q k^T + sum of biases) v
//
// attention over L for each of B * N rows and H heads, without ever holding the [B, N, H, Lq, Lk] logits in memory.
// With a mask bias and a pair bias it is the row, column and triangle attention of the Evoformer (Jumper et al. 2021).
// Differentiable any number of times, though second and further derivatives do hold logits (double_backward.h).
// Importing this library also registers torch.ops.longfold.evoformer_attention and its backward.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "longfold/kernels/evoformer_attention.h"
#include "longfold/ops/export.h"

namespace longfold::ops {

using kernels::FullyMasked;

struct EvoformerAttentionOptions {
  std::optional<double> scale;                    // none: D^-1/2
  FullyMasked fully_masked = FullyMasked::kZero;  // what rows give whose largest logit is <= -5e8
};

struct EvoformerAttentionResult {
  at::Tensor out;          // [B, N, Lq, H, D], dtype of q
  at::Tensor log_sum_exp;  // [B, N, H, Lq], fp32 (fp64 for fp64 inputs)
};

// q [B, N, Lq, H, D]; k and v [B, N, Lk, H, D]; any strides; fp32, bf16, fp16 or fp64. Each bias broadcasts to
// [B, N, H, Lq, Lk] and may have another dtype: a mask bias is [B, N, 1, 1, Lk], a pair bias [B, 1, H, Lq, Lk].
// The gradient of a bias that varies over N, Lq and Lk is as large as it is, and first summed in fp32 (fp64).
// A bias of bools, [B, N, 1, 1, Lk], hides keys instead: where it is false, the logit is -1e9 whatever q, k and the
// other biases hold there. B, N, H and Lq may be 0. Throws c10::Error with one line "[evoformer_attention] expected
// ..., got ...".
[[nodiscard]] LONGFOLD_OPS_EXPORT EvoformerAttentionResult
evoformer_attention_with_log_sum_exp(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                     at::TensorList biases = {}, const EvoformerAttentionOptions& options = {});

[[nodiscard]] LONGFOLD_OPS_EXPORT at::Tensor evoformer_attention(const at::Tensor& q, const at::Tensor& k,
                                                                 const at::Tensor& v, at::TensorList biases = {},
                                                                 const EvoformerAttentionOptions& options = {});

}  // namespace longfold::ops
