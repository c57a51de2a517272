// The ops on the CPU: tensors to views, results allocated, items spread over threads. The arithmetic is in kernels/.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <array>

#include "longfold/ops/check_arguments.h"
#include "longfold/ops/dispatch.h"
#include "longfold/ops/parallel_items.h"
#include "longfold/ops/sum_to.h"

namespace longfold::ops {
namespace {

using kernels::Accumulator;
using kernels::BiasView;
using kernels::TensorView;

// Calls function with a value of the element type that kernels use for q.
template <class Function>
auto with_element_type(at::ScalarType type, Function&& function) {
  if (type == at::kDouble) return function(double{});
  if (type == at::kBFloat16) return function(kernels::bfloat16{});
  if (type == at::kHalf) return function(kernels::float16{});
  TORCH_INTERNAL_ASSERT(type == at::kFloat, "check_arguments lets nothing else through");
  return function(float{});
}

// An undefined tensor gives a null view: not there, or not wanted.
template <class T, int Rank>
TensorView<T, Rank> view(const at::Tensor& tensor) {
  TensorView<T, Rank> result;
  if (!tensor.defined()) return result;
  TORCH_INTERNAL_ASSERT(tensor.dim() == Rank);
  if constexpr (std::is_const_v<T>) {
    result.data = static_cast<T*>(tensor.const_data_ptr());
  } else {
    result.data = static_cast<T*>(tensor.mutable_data_ptr());
  }
  std::copy_n(tensor.sizes().begin(), Rank, result.sizes.begin());
  std::copy_n(tensor.strides().begin(), Rank, result.strides.begin());
  return result;
}

kernels::DType bias_type(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return kernels::DType::kFloat32;
    case at::kDouble:
      return kernels::DType::kFloat64;
    case at::kBFloat16:
      return kernels::DType::kBFloat16;
    default:
      TORCH_INTERNAL_ASSERT(type == at::kHalf, "check_arguments lets nothing else through");
      return kernels::DType::kFloat16;
  }
}

// Dimensions of size 1, and those that are missing on the left, get stride 0: there the bias does not vary.
std::vector<BiasView> bias_views(at::TensorList biases) {
  std::vector<BiasView> views;
  for (const at::Tensor& bias : biases) {
    BiasView result{.data = bias.const_data_ptr(), .dtype = bias_type(bias.scalar_type())};
    for (int64_t d = 1; d <= bias.dim(); ++d) {
      result.strides[static_cast<size_t>(5 - d)] = bias.size(-d) == 1 ? 0 : bias.stride(-d);
    }
    views.push_back(result);
  }
  return views;
}

at::Tensor contiguous_like(const at::Tensor& tensor) {
  return at::empty(tensor.sizes(), tensor.options(), at::MemoryFormat::Contiguous);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                       at::TensorList biases, std::optional<double> scale,
                                                       std::string_view fully_masked) {
  const Settings settings = check_arguments(q, k, v, biases, scale, fully_masked);
  const auto out = contiguous_like(q);
  const auto log_sum_exp =
      at::empty({q.size(0), q.size(1), q.size(3), q.size(2)}, q.options().dtype(accumulator_type(q.scalar_type())));
  const auto lse_correction = at::empty_like(log_sum_exp);
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
                                       .fully_masked = settings.fully_masked,
                                       .num_threads = at::get_num_threads()};
    const kernels::Plan plan = kernels::plan_forward(args);
    parallel_items(plan.num_items, plan.scratch_bytes, [&](int64_t begin, int64_t end, std::span<std::byte> scratch) {
      kernels::run_forward(args, begin, end, scratch);
    });
  });
  return {out, log_sum_exp, lse_correction};
}

// The two sums of logit gradients that bias gradients are made of; undefined where no bias asks for them.
struct LogitGradients {
  at::Tensor pair;  // [B, H, Lq, Lk]
  at::Tensor mask;  // [B, N, H, Lk]

  at::Tensor& of(BiasGradient kind) { return kind == BiasGradient::kPair ? pair : mask; }
};

LogitGradients allocate_logit_gradients(const at::Tensor& q, const at::Tensor& k, at::TensorList biases,
                                        const c10::List<bool>& bias_needs_grad) {
  LogitGradients result;
  const auto options = q.options().dtype(accumulator_type(q.scalar_type()));
  for (size_t i = 0; i < biases.size(); ++i) {
    if (!bias_needs_grad[i]) continue;
    const BiasGradient kind = bias_gradient(q, biases, i);
    if (result.of(kind).defined()) continue;
    result.of(kind) = kind == BiasGradient::kPair ? at::empty({q.size(0), q.size(3), q.size(2), k.size(2)}, options)
                                                  : at::empty({q.size(0), q.size(1), q.size(3), k.size(2)}, options);
  }
  return result;
}

std::vector<at::Tensor> bias_gradients(LogitGradients& sums, const at::Tensor& q, at::TensorList biases,
                                       const c10::List<bool>& bias_needs_grad) {
  std::vector<at::Tensor> result;
  for (size_t i = 0; i < biases.size(); ++i) {
    if (!bias_needs_grad[i]) continue;
    const BiasGradient kind = bias_gradient(q, biases, i);
    const at::Tensor sum = sums.of(kind).unsqueeze(kind == BiasGradient::kPair ? 1 : 3);  // as [B, N, H, Lq, Lk]
    at::Tensor grad = sum_to(sum, biases[i]);
    // Gradients are added to in place later on, so no two of them may share memory.
    const auto shares = [&](const at::Tensor& other) { return grad.is_alias_of(other); };
    if (std::any_of(result.begin(), result.end(), shares)) grad = grad.clone();
    result.push_back(std::move(grad));
  }
  return result;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, std::vector<at::Tensor>> backward(
    const at::Tensor& grad_out, const std::optional<at::Tensor>& grad_log_sum_exp, const at::Tensor& q,
    const at::Tensor& k, const at::Tensor& v, at::TensorList biases, const at::Tensor& out,
    const at::Tensor& log_sum_exp, const at::Tensor& lse_correction, std::optional<double> scale,
    std::string_view fully_masked, c10::List<bool> bias_needs_grad) {
  const Settings settings = check_backward_arguments(grad_out, grad_log_sum_exp, q, k, v, biases, out, log_sum_exp,
                                                     lse_correction, scale, fully_masked, bias_needs_grad);
  const auto grad_q = contiguous_like(q), grad_k = contiguous_like(k), grad_v = contiguous_like(v);
  LogitGradients sums = allocate_logit_gradients(q, k, biases, bias_needs_grad);
  const auto views = bias_views(biases);
  with_element_type(q.scalar_type(), [&]<class T>(T) {
    using Acc = Accumulator<T>;
    const kernels::BackwardArgs<T> args{.q = view<const T, 5>(q),
                                        .k = view<const T, 5>(k),
                                        .v = view<const T, 5>(v),
                                        .biases = views,
                                        .out = view<const T, 5>(out),
                                        .log_sum_exp = view<const Acc, 4>(log_sum_exp),
                                        .lse_correction = view<const Acc, 4>(lse_correction),
                                        .grad_out = view<const T, 5>(grad_out),
                                        .grad_log_sum_exp = view<const Acc, 4>(grad_log_sum_exp.value_or(at::Tensor())),
                                        .grad_q = view<T, 5>(grad_q),
                                        .grad_k = view<T, 5>(grad_k),
                                        .grad_v = view<T, 5>(grad_v),
                                        .grad_pair = view<Acc, 4>(sums.pair),
                                        .grad_mask = view<Acc, 4>(sums.mask),
                                        .scale = settings.scale,
                                        .fully_masked = settings.fully_masked};
    const kernels::Plan plan = kernels::plan_backward(args);
    const Buffer workspace(plan.workspace_bytes);
    parallel_items(plan.num_items, plan.scratch_bytes, [&](int64_t begin, int64_t end, std::span<std::byte> scratch) {
      kernels::run_backward(args, begin, end, scratch, workspace.bytes());
    });
    parallel_items(plan.num_finish_items, 0, [&](int64_t begin, int64_t end, std::span<std::byte>) {
      kernels::finish_backward(args, begin, end, workspace.bytes());
    });
  });
  return {grad_q, grad_k, grad_v, bias_gradients(sums, q, biases, bias_needs_grad)};
}

}  // namespace

TORCH_LIBRARY_IMPL(longfold, CPU, m) {
  m.impl("evoformer_attention", forward);
  m.impl("evoformer_attention_backward", backward);
}

}  // namespace longfold::ops
