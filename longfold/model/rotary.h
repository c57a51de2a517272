// Rotary position embeddings as GPT-NeoX has them: the first half of the turned dimensions pairs with the second half.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "longfold/model/attention.h"

namespace longfold::model {

struct RotaryTables {
  at::Tensor cos, sin;  // [B, S, rotary_size / 2], fp32
};

// Tables for int64 positions [B, S]: any positions, they may restart within a row; they are divided by `scaling` first.
// Angles are computed in fp64, because fp32 cannot hold the angle of position 1,000,003 to better than 1/16.
[[nodiscard]] RotaryTables rotary_tables(const at::Tensor& positions, int64_t rotary_size, double base,
                                         double scaling = 1);

// Splits a fused projection [B, S, KV heads, (G + 2) D], which holds G heads of queries, one of keys and one of values
// side by side, and turns the leading 2 * cos.size(-1) dimensions of every head of q and k. All three lie in the memory
// of `qkv`, which is overwritten: backward of attention then keeps three tensors alive, not five. Where there are
// several groups of several queries, q is a copy, since its heads do not lie at equal distances. Differentiable once;
// on a GPU gradients of q, k and v that lie side by side are overwritten too.
[[nodiscard]] Qkv split_and_rotate(const at::Tensor& qkv, int64_t head_size, const RotaryTables& tables);

}  // namespace longfold::model
