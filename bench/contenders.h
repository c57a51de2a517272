// The same attention by longfold, by torch eager and by torch's scaled_dot_product_attention.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "bench/shapes.h"

namespace longfold::bench {

struct Inputs {
  at::Tensor q, k, v, mask, pair;  // leaves that require gradients
  at::Tensor grad_out;
  [[nodiscard]] std::vector<at::Tensor> leaves() const { return {q, k, v, mask, pair}; }
};

// Normal numbers, the same for the same shape; those of the biases with standard deviation shape.bias_std. `rows` in
// the place of N.
[[nodiscard]] Inputs make_inputs(const Shape& shape, int64_t rows);
// The same numbers in fp64, as new leaves.
[[nodiscard]] Inputs in_fp64(const Inputs& inputs);
void forget_gradients(const Inputs& inputs);

// out [B, N, L, H, D].
[[nodiscard]] at::Tensor longfold_attention(const Inputs& inputs);
// Products in the dtype of q, softmax in fp32: as models write it.
[[nodiscard]] at::Tensor eager_attention(const Inputs& inputs);
// Its bias must be one tensor, so mask and pair are added up for every row n.
[[nodiscard]] at::Tensor sdpa_attention(const Inputs& inputs);

struct Contender {
  const char* name;
  at::Tensor (*attention)(const Inputs&);
};
inline constexpr Contender kContenders[] = {
    {"longfold", longfold_attention},
    {"SDPA", sdpa_attention},
    {"eager", eager_attention},
};

}  // namespace longfold::bench
