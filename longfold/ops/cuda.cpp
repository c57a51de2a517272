// The ops on CUDA tensors: results allocated, the device and its current stream chosen, kernels started. Nothing here
// waits for the device, so that a CUDA graph can capture it. Without CUDA no_cuda.cpp takes the place of this file.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "longfold/kernels/cuda/evoformer_attention.h"
#include "longfold/ops/bias_gradients.h"
#include "longfold/ops/check_arguments.h"
#include "longfold/ops/layout.h"
#include "longfold/ops/sum_to.h"
#include "longfold/ops/views.h"

namespace longfold::ops {
namespace {

class Workspace {
 public:
  Workspace(int64_t num_bytes, const at::TensorOptions& options)
      : memory_(at::empty({num_bytes}, options.dtype(at::kByte))) {}
  [[nodiscard]] std::span<std::byte> bytes() const {
    return {reinterpret_cast<std::byte*>(memory_.mutable_data_ptr()), static_cast<size_t>(memory_.numel())};
  }

 private:
  at::Tensor memory_;
};

std::tuple<at::Tensor, at::Tensor, at::Tensor> attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                      at::TensorList biases, std::optional<double> scale,
                                                      std::string_view fully_masked) {
  const Settings settings = check_arguments(q, k, v, biases, scale, fully_masked);
  const c10::cuda::CUDAGuard guard(q.device());
  const auto out = contiguous_like(q);
  const auto log_sum_exp =
      at::empty({q.size(0), q.size(1), q.size(3), q.size(2)}, q.options().dtype(accumulator_type(q.scalar_type())));
  const auto lse_correction = at::empty_like(log_sum_exp);
  if (out.numel() == 0) return {out, log_sum_exp, lse_correction};
  const auto views = bias_views(biases);
  with_element_type(q.scalar_type(), [&]<class T>(T) {
    const kernels::ForwardArgs<T> args{.q = view<const T, 5>(q),
                                       .k = view<const T, 5>(k),
                                       .v = view<const T, 5>(v),
                                       .biases = views,
                                       .out = view<T, 5>(out),
                                       .log_sum_exp = view<Accumulator<T>, 4>(log_sum_exp),
                                       .lse_correction = view<Accumulator<T>, 4>(lse_correction),
                                       .scale = settings.scale,
                                       .fully_masked = settings.fully_masked};
    const Workspace workspace(kernels::cuda::forward_workspace_bytes(args), q.options());
    kernels::cuda::run_forward(args, workspace.bytes(), c10::cuda::getCurrentCUDAStream());
  });
  return {out, log_sum_exp, lse_correction};
}

template <class T>
void run_backward(const kernels::BackwardArgs<T>& args, const at::TensorOptions& options) {
  const Workspace workspace(kernels::cuda::backward_workspace_bytes(args), options);
  kernels::cuda::run_backward(args, workspace.bytes(), c10::cuda::getCurrentCUDAStream());
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, std::vector<at::Tensor>> differentiate(
    const at::Tensor& grad_out, const std::optional<at::Tensor>& grad_log_sum_exp, const at::Tensor& q,
    const at::Tensor& k, const at::Tensor& v, at::TensorList biases, const at::Tensor& out,
    const at::Tensor& log_sum_exp, const at::Tensor& lse_correction, std::optional<double> scale,
    std::string_view fully_masked, c10::List<bool> bias_needs_grad) {
  const Settings settings = check_backward_arguments(grad_out, grad_log_sum_exp, q, k, v, biases, out, log_sum_exp,
                                                     lse_correction, scale, fully_masked, bias_needs_grad);
  const c10::cuda::CUDAGuard guard(q.device());
  if (q.numel() == 0) return zero_gradients(q, k, v, biases, bias_needs_grad);
  const LogitGradients sums = allocate_logit_gradients(q, k, biases, bias_needs_grad);
  const at::Tensor grad_lse = grad_log_sum_exp.value_or(at::Tensor());
  const auto grad_q = contiguous_like(q), grad_k = contiguous_like(k), grad_v = contiguous_like(v);
  const auto views = bias_views(biases);
  with_element_type(q.scalar_type(), [&]<class T>(T) {
    using Acc = Accumulator<T>;
    // The kernels fill one grad_logits a call. Each further one takes another call, which writes the rest again.
    for (size_t i = 0; i < std::max<size_t>(1, sums.logits.size()); ++i) {
      run_backward<T>({.q = view<const T, 5>(q),
                       .k = view<const T, 5>(k),
                       .v = view<const T, 5>(v),
                       .biases = views,
                       .out = view<const T, 5>(out),
                       .log_sum_exp = view<const Acc, 4>(log_sum_exp),
                       .lse_correction = view<const Acc, 4>(lse_correction),
                       .grad_out = view<const T, 5>(grad_out),
                       .grad_log_sum_exp = view<const Acc, 4>(grad_lse),
                       .grad_q = view<T, 5>(grad_q),
                       .grad_k = view<T, 5>(grad_k),
                       .grad_v = view<T, 5>(grad_v),
                       .grad_pair = view<Acc, 4>(i == 0 ? sums.pair : at::Tensor()),
                       .grad_mask = view<Acc, 4>(i == 0 ? sums.mask : at::Tensor()),
                       .grad_logits = view<Acc, 5>(i < sums.logits.size() ? sums.logits[i] : at::Tensor()),
                       .scale = settings.scale,
                       .fully_masked = settings.fully_masked},
                      q.options());
    }
  });
  return {
      grad_q, grad_k, grad_v,
      bias_gradients(sums, {q, v, grad_out, log_sum_exp, grad_lse}, biases, bias_needs_grad, settings.fully_masked)};
}

}  // namespace

void sum_middle_on_cuda(const at::Tensor& from, const at::Tensor& to, int64_t num_outer, int64_t num_summed,
                        int64_t num_inner) {
  const auto sum = [&]<class T>(T) {
    kernels::cuda::sum_middle(from.const_data_ptr<T>(), to.mutable_data_ptr<T>(), num_outer, num_summed, num_inner,
                              c10::cuda::getCurrentCUDAStream());
  };
  from.scalar_type() == at::kDouble ? sum(double{}) : sum(float{});
}

TORCH_LIBRARY_IMPL(longfold, CUDA, m) {
  m.impl("evoformer_attention", in_either_layout<attend>);
  m.impl("evoformer_attention_backward", in_either_layout<differentiate>);
}

}  // namespace longfold::ops
