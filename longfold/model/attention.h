// Causal attention without a mask and without an S x S tensor: libtorch's flash kernel, called by name, because
// at::scaled_dot_product_attention falls back to materialised scores without a word (for instance for a strided head).
#pragma once

#include <ATen/core/Tensor.h>

namespace longfold::model {

// softmax(q k^T / sqrt(D), keys up to the query's own position) v, differentiable, for q [B, S, H, D] and k, v
// [B, S, KV heads, D]: each head of these is that of H / KV heads of queries, side by side.
[[nodiscard]] at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

}  // namespace longfold::model
