// The ops on CUDA tensors. So far there are no kernels for them: kernels/cuda/no_cuda.cpp says so, by name.
#include <torch/library.h>

#include "longfold/kernels/cuda/evoformer_attention.h"
#include "longfold/ops/check_arguments.h"
#include "longfold/ops/layout.h"

namespace longfold::ops {
namespace {

std::tuple<at::Tensor, at::Tensor, at::Tensor> attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                      at::TensorList biases, std::optional<double> scale,
                                                      std::string_view fully_masked) {
  check_arguments(q, k, v, biases, scale, fully_masked);
  kernels::cuda::require_kernels("evoformer_attention");
  return {};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, std::vector<at::Tensor>> differentiate(
    const at::Tensor& grad_out, const std::optional<at::Tensor>& grad_log_sum_exp, const at::Tensor& q,
    const at::Tensor& k, const at::Tensor& v, at::TensorList biases, const at::Tensor& out,
    const at::Tensor& log_sum_exp, const at::Tensor& lse_correction, std::optional<double> scale,
    std::string_view fully_masked, c10::List<bool> bias_needs_grad) {
  check_backward_arguments(grad_out, grad_log_sum_exp, q, k, v, biases, out, log_sum_exp, lse_correction, scale,
                           fully_masked, bias_needs_grad);
  kernels::cuda::require_kernels("evoformer_attention_backward");
  return {};
}

}  // namespace

TORCH_LIBRARY_IMPL(longfold, CUDA, m) {
  m.impl("evoformer_attention", in_either_layout<attend>);
  m.impl("evoformer_attention_backward", in_either_layout<differentiate>);
}

}  // namespace longfold::ops
