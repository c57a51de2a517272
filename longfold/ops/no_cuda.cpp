// The ops on CUDA tensors where longfold was built without CUDA: errors that say what is missing.
#include <torch/library.h>

#include "longfold/kernels/cuda/evoformer_attention.h"
#include "longfold/ops/check_arguments.h"
#include "longfold/ops/layout.h"
#include "longfold/ops/sum_to.h"

namespace longfold::ops {
namespace {

[[noreturn]] void refuse(const char* op) {
  TORCH_CHECK(false, "[", op, "] expected tensors on the CPU, got CUDA tensors: the CUDA kernels of this build are ",
              kernels::cuda::engine_status(), "; docs/install.md says how to build them");
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                      at::TensorList biases, std::optional<double> scale,
                                                      std::string_view fully_masked) {
  check_arguments(q, k, v, biases, scale, fully_masked);
  refuse("evoformer_attention");
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, std::vector<at::Tensor>> differentiate(
    const at::Tensor& grad_out, const std::optional<at::Tensor>& grad_log_sum_exp, const at::Tensor& q,
    const at::Tensor& k, const at::Tensor& v, at::TensorList biases, const at::Tensor& out,
    const at::Tensor& log_sum_exp, const at::Tensor& lse_correction, std::optional<double> scale,
    std::string_view fully_masked, c10::List<bool> bias_needs_grad) {
  check_backward_arguments(grad_out, grad_log_sum_exp, q, k, v, biases, out, log_sum_exp, lse_correction, scale,
                           fully_masked, bias_needs_grad);
  refuse("evoformer_attention_backward");
}

}  // namespace

void sum_middle_on_cuda(const at::Tensor&, const at::Tensor&, int64_t, int64_t, int64_t) {
  refuse("evoformer_attention_backward");
}

TORCH_LIBRARY_IMPL(longfold, CUDA, m) {
  m.impl("evoformer_attention", in_either_layout<attend>);
  m.impl("evoformer_attention_backward", in_either_layout<differentiate>);
}

}  // namespace longfold::ops
