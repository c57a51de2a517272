#include "bench/contenders.h"

#include <ATen/ATen.h>

#include <cmath>

#include "longfold/ops/evoformer_attention.h"

namespace longfold::bench {

Inputs make_inputs(const Shape& shape, int64_t rows) {
  at::manual_seed(1);
  const cases::EvoformerCase& s = shape.sizes;
  const auto leaf = [&](at::IntArrayRef sizes, double std = 1) {
    return (at::randn(sizes, at::kFloat) * std).to(shape.dtype).requires_grad_(true);
  };
  return {.q = leaf({s.B, rows, s.Lq, s.H, s.D}),
          .k = leaf({s.B, rows, s.Lk, s.H, s.D}),
          .v = leaf({s.B, rows, s.Lk, s.H, s.D}),
          .mask = leaf({s.B, rows, 1, 1, s.Lk}, shape.bias_std),
          .pair = leaf({s.B, 1, s.H, s.Lq, s.Lk}, shape.bias_std),
          .grad_out = at::randn({s.B, rows, s.Lq, s.H, s.D}).to(shape.dtype)};
}

Inputs in_fp64(const Inputs& inputs) {
  const auto exact = [](const at::Tensor& t) { return t.detach().to(at::kDouble).requires_grad_(true); };
  return {.q = exact(inputs.q),
          .k = exact(inputs.k),
          .v = exact(inputs.v),
          .mask = exact(inputs.mask),
          .pair = exact(inputs.pair),
          .grad_out = inputs.grad_out.to(at::kDouble)};
}

void forget_gradients(const Inputs& inputs) {
  for (at::Tensor leaf : inputs.leaves()) leaf.mutable_grad().reset();
}

at::Tensor longfold_attention(const Inputs& x) {
  return ops::evoformer_attention(x.q, x.k, x.v, {x.mask, x.pair});
}

at::Tensor eager_attention(const Inputs& x) {
  const double scale = 1 / std::sqrt(static_cast<double>(x.q.size(-1)));
  const auto logits = at::matmul(x.q.transpose(2, 3) * scale, x.k.permute({0, 1, 3, 4, 2})) + x.mask + x.pair;
  const auto softmax_type = x.q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto weights = at::softmax(logits, -1, softmax_type).to(x.v.scalar_type());
  return at::matmul(weights, x.v.transpose(2, 3)).transpose(2, 3);
}

at::Tensor sdpa_attention(const Inputs& x) {
  const auto heads_first = [](const at::Tensor& t) { return t.flatten(0, 1).transpose(1, 2); };
  const auto bias = (x.mask + x.pair).flatten(0, 1);
  return at::scaled_dot_product_attention(heads_first(x.q), heads_first(x.k), heads_first(x.v), bias)
      .transpose(1, 2)
      .unsqueeze(0);
}

}  // namespace longfold::bench
