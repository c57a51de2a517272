// Shapes and dtypes of the results without data: for torch.compile, fake tensors and the meta device.
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "longfold/ops/causal/check_arguments.h"
#include "longfold/ops/check_arguments.h"

namespace longfold::ops {
namespace {

at::Tensor contiguous_like(const at::Tensor& tensor) {
  return at::empty_symint(tensor.sym_sizes(), tensor.options(), at::MemoryFormat::Contiguous);
}

std::tuple<at::Tensor, at::Tensor> attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                          const std::optional<at::Tensor>& documents, int64_t window,
                                          std::optional<double> scale) {
  check_causal_arguments(q, k, v, documents, window, scale);
  auto log_sum_exp = at::empty_symint({q.sym_size(0), q.sym_size(2), q.sym_size(1)},
                                      q.options().dtype(accumulator_type(q.scalar_type())));
  return {contiguous_like(q), std::move(log_sum_exp)};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> differentiate(const at::Tensor& grad_out, const at::Tensor& q,
                                                             const at::Tensor& k, const at::Tensor& v,
                                                             const at::Tensor& out, const at::Tensor& log_sum_exp,
                                                             const std::optional<at::Tensor>& documents, int64_t window,
                                                             std::optional<double> scale) {
  check_causal_backward_arguments(grad_out, q, k, v, out, log_sum_exp, documents, window, scale);
  return {contiguous_like(q), contiguous_like(k), contiguous_like(v)};
}

}  // namespace

TORCH_LIBRARY_IMPL(longfold, Meta, m) {
  m.impl("causal_attention", attend);
  m.impl("causal_attention_backward", differentiate);
}

}  // namespace longfold::ops
