// The only validation of the ops' arguments. Every message is one line: [evoformer_attention] expected ..., got ...
// Sizes are read symbolically, so the same checks serve the meta kernels under torch.compile with dynamic shapes.
#pragma once

#include <ATen/core/List.h>
#include <ATen/core/Tensor.h>

#include <optional>
#include <string_view>

#include "longfold/kernels/evoformer_attention.h"

namespace longfold::ops {

// What the checks make of the optional and textual arguments.
struct Settings {
  double scale = 1;
  kernels::FullyMasked fully_masked = kernels::FullyMasked::kZero;
};

Settings check_arguments(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, at::TensorList biases,
                         std::optional<double> scale, std::string_view fully_masked);

Settings check_backward_arguments(const at::Tensor& grad_out, const std::optional<at::Tensor>& grad_log_sum_exp,
                                  const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, at::TensorList biases,
                                  const at::Tensor& out, const at::Tensor& log_sum_exp,
                                  const at::Tensor& lse_correction, std::optional<double> scale,
                                  std::string_view fully_masked, const c10::List<bool>& bias_needs_grad);

// fp64 for fp64, else fp32: the type of log_sum_exp and of every sum.
[[nodiscard]] at::ScalarType accumulator_type(at::ScalarType type);

}  // namespace longfold::ops
