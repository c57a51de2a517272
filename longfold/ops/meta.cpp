// Shapes and dtypes of the results without data: for torch.compile, fake tensors and the meta device.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "longfold/ops/check_arguments.h"
#include "longfold/ops/layout.h"

namespace longfold::ops {
namespace {

at::Tensor contiguous_like(const at::Tensor& tensor) {
  return at::empty_symint(tensor.sym_sizes(), tensor.options(), at::MemoryFormat::Contiguous);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                      at::TensorList biases, std::optional<double> scale,
                                                      std::string_view fully_masked) {
  check_arguments(q, k, v, biases, scale, fully_masked);
  auto log_sum_exp = at::empty_symint({q.sym_size(0), q.sym_size(1), q.sym_size(3), q.sym_size(2)},
                                      q.options().dtype(accumulator_type(q.scalar_type())));
  auto lse_correction = at::empty_like(log_sum_exp);
  return {contiguous_like(q), std::move(log_sum_exp), std::move(lse_correction)};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, std::vector<at::Tensor>> differentiate(
    const at::Tensor& grad_out, const std::optional<at::Tensor>& grad_log_sum_exp, const at::Tensor& q,
    const at::Tensor& k, const at::Tensor& v, at::TensorList biases, const at::Tensor& out,
    const at::Tensor& log_sum_exp, const at::Tensor& lse_correction, std::optional<double> scale,
    std::string_view fully_masked, c10::List<bool> bias_needs_grad) {
  check_backward_arguments(grad_out, grad_log_sum_exp, q, k, v, biases, out, log_sum_exp, lse_correction, scale,
                           fully_masked, bias_needs_grad);
  std::vector<at::Tensor> grad_biases;
  for (size_t i = 0; i < biases.size(); ++i) {
    if (bias_needs_grad[i]) grad_biases.push_back(contiguous_like(biases[i]));
  }
  return {contiguous_like(q), contiguous_like(k), contiguous_like(v), std::move(grad_biases)};
}

}  // namespace

TORCH_LIBRARY_IMPL(longfold, Meta, m) {
  m.impl("evoformer_attention", in_either_layout<attend>);
  m.impl("evoformer_attention_backward", in_either_layout<differentiate>);
}

}  // namespace longfold::ops
