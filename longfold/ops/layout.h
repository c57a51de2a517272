// The option heads_first of the ops: kernels for a device are written for [B, N, L, H, D] alone.
#pragma once

#include "longfold/ops/dispatch.h"

namespace longfold::ops {

// A tensor of an op with heads_first, as [B, N, L, H, D]. Those of other ranks stay as they are, for the checks to
// name.
inline at::Tensor lengths_first(at::Tensor tensor, bool heads_first) {
  if (!heads_first || !tensor.defined() || tensor.dim() < 3) return tensor;
  while (tensor.dim() < 5) tensor = tensor.unsqueeze(0);
  return tensor.dim() == 5 ? tensor.transpose(2, 3) : tensor;
}

// The way back for a result [B, N, L, H, D], to as many dims as `like` has.
inline at::Tensor as_given(at::Tensor tensor, const at::Tensor& like, bool heads_first) {
  if (!heads_first) return tensor;
  tensor = tensor.transpose(2, 3);
  while (tensor.dim() > like.dim()) tensor = tensor.squeeze(0);
  return tensor;
}

// The signatures of the ops, less heads_first.
using AttendSignature = std::tuple<at::Tensor, at::Tensor, at::Tensor>(const at::Tensor& q, const at::Tensor& k,
                                                                       const at::Tensor& v, at::TensorList biases,
                                                                       std::optional<double> scale,
                                                                       std::string_view fully_masked);
using DifferentiateSignature = std::tuple<at::Tensor, at::Tensor, at::Tensor, std::vector<at::Tensor>>(
    const at::Tensor& grad_out, const std::optional<at::Tensor>& grad_log_sum_exp, const at::Tensor& q,
    const at::Tensor& k, const at::Tensor& v, at::TensorList biases, const at::Tensor& out,
    const at::Tensor& log_sum_exp, const at::Tensor& lse_correction, std::optional<double> scale,
    std::string_view fully_masked, c10::List<bool> bias_needs_grad);

// What to register: the function with heads_first. log_sum_exp is [B, N, H, Lq] either way.
template <AttendSignature* Function>
std::tuple<at::Tensor, at::Tensor, at::Tensor> in_either_layout(const at::Tensor& q, const at::Tensor& k,
                                                                const at::Tensor& v, at::TensorList biases,
                                                                std::optional<double> scale,
                                                                std::string_view fully_masked, bool heads_first) {
  const auto inner = [&](const at::Tensor& tensor) { return lengths_first(tensor, heads_first); };
  auto [out, log_sum_exp, lse_correction] = Function(inner(q), inner(k), inner(v), biases, scale, fully_masked);
  return {as_given(out, q, heads_first), log_sum_exp, lse_correction};
}

template <DifferentiateSignature* Function>
std::tuple<at::Tensor, at::Tensor, at::Tensor, std::vector<at::Tensor>> in_either_layout(
    const at::Tensor& grad_out, const std::optional<at::Tensor>& grad_log_sum_exp, const at::Tensor& q,
    const at::Tensor& k, const at::Tensor& v, at::TensorList biases, const at::Tensor& out,
    const at::Tensor& log_sum_exp, const at::Tensor& lse_correction, std::optional<double> scale,
    std::string_view fully_masked, c10::List<bool> bias_needs_grad, bool heads_first) {
  const auto inner = [&](const at::Tensor& tensor) { return lengths_first(tensor, heads_first); };
  auto [grad_q, grad_k, grad_v, grad_biases] =
      Function(inner(grad_out), grad_log_sum_exp, inner(q), inner(k), inner(v), biases, inner(out), log_sum_exp,
               lse_correction, scale, fully_masked, std::move(bias_needs_grad));
  return {as_given(grad_q, q, heads_first), as_given(grad_k, k, heads_first), as_given(grad_v, v, heads_first),
          std::move(grad_biases)};
}

}  // namespace longfold::ops
