// The ops on the CPU: tensors to views, results allocated, items spread over threads. The arithmetic is in kernels/.
#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/nan_to_num.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

#include <algorithm>

#include "longfold/ops/bias_gradients.h"
#include "longfold/ops/check_arguments.h"
#include "longfold/ops/layout.h"
#include "longfold/ops/parallel_items.h"
#include "longfold/ops/views.h"

namespace longfold::ops {
namespace {

std::tuple<at::Tensor, at::Tensor, at::Tensor> attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                      at::TensorList biases, std::optional<double> scale,
                                                      std::string_view fully_masked) {
  const Settings settings = check_arguments(q, k, v, biases, scale, fully_masked);
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
                                       .fully_masked = settings.fully_masked,
                                       .num_threads = at::get_num_threads()};
    const kernels::Plan plan = kernels::plan_forward(args);
    parallel_items(plan.num_items, plan.scratch_bytes, [&](int64_t begin, int64_t end, std::span<std::byte> scratch) {
      kernels::run_forward(args, begin, end, scratch);
    });
  });
  return {out, log_sum_exp, lse_correction};
}

// The tensors of one backward call; undefined where not given, or not wanted.
struct BackwardTensors {
  at::Tensor q, k, v, out, log_sum_exp, lse_correction, grad_out, grad_log_sum_exp;
  std::vector<at::Tensor> biases;
  at::Tensor grad_q, grad_k, grad_v, grad_pair, grad_mask;
  at::Tensor grad_logits{};
  at::Tensor grad_pair_rest{}, grad_logits_rest{};  // of sums over several calls
  bool add_to_grad_pair = false;
};

enum class Dim { kBatch, kHead };

// The same call for one batch, or one head.
BackwardTensors select(BackwardTensors all, Dim dim, int64_t index) {
  const auto narrow = [&](std::initializer_list<at::Tensor*> tensors, int64_t head_dim) {
    const int64_t at = dim == Dim::kBatch ? 0 : head_dim;
    for (at::Tensor* tensor : tensors) {
      if (tensor->defined() && tensor->size(at) != 1) *tensor = tensor->narrow(at, index, 1);
    }
  };
  narrow({&all.q, &all.k, &all.v, &all.out, &all.grad_out, &all.grad_q, &all.grad_k, &all.grad_v}, 3);
  narrow({&all.log_sum_exp, &all.lse_correction, &all.grad_log_sum_exp, &all.grad_mask}, 2);
  narrow({&all.grad_logits, &all.grad_logits_rest}, 2);
  narrow({&all.grad_pair, &all.grad_pair_rest}, 1);
  for (at::Tensor& bias : all.biases) {
    const int64_t at = bias.dim() - (dim == Dim::kBatch ? 5 : 3);
    if (at >= 0 && bias.size(at) != 1) bias = bias.narrow(at, index, 1);
  }
  return all;
}

template <class T>
void run_backward(const BackwardTensors& tensors, const Settings& settings) {
  using Acc = Accumulator<T>;
  const auto views = bias_views(tensors.biases);
  const kernels::BackwardArgs<T> args{.q = view<const T, 5>(tensors.q),
                                      .k = view<const T, 5>(tensors.k),
                                      .v = view<const T, 5>(tensors.v),
                                      .biases = views,
                                      .out = view<const T, 5>(tensors.out),
                                      .log_sum_exp = view<const Acc, 4>(tensors.log_sum_exp),
                                      .lse_correction = view<const Acc, 4>(tensors.lse_correction),
                                      .grad_out = view<const T, 5>(tensors.grad_out),
                                      .grad_log_sum_exp = view<const Acc, 4>(tensors.grad_log_sum_exp),
                                      .grad_q = view<T, 5>(tensors.grad_q),
                                      .grad_k = view<T, 5>(tensors.grad_k),
                                      .grad_v = view<T, 5>(tensors.grad_v),
                                      .grad_pair = view<Acc, 4>(tensors.grad_pair),
                                      .grad_mask = view<Acc, 4>(tensors.grad_mask),
                                      .grad_logits = view<Acc, 5>(tensors.grad_logits),
                                      .add_to_grad_pair = tensors.add_to_grad_pair,
                                      .grad_pair_rest = view<Acc, 4>(tensors.grad_pair_rest),
                                      .grad_logits_rest = view<Acc, 5>(tensors.grad_logits_rest),
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
}

// Sums over at most so many batches and heads are added up without a rest.
constexpr int64_t kPlainCalls = 8;

// What the roundings of a sum over calls leave out, zeros; undefined where that is little.
at::Tensor rest_of(const at::Tensor& sum, const at::Tensor& q, int64_t head_dim) {
  if (!sum.defined()) return {};
  const int64_t calls = (sum.size(0) == 1 ? q.size(0) : 1) * (sum.size(head_dim) == 1 ? q.size(3) : 1);
  return calls > kPlainCalls ? at::zeros_like(sum) : at::Tensor();
}

// Where a sum is no finite number, its rest is none at all.
void join(const at::Tensor& sum, const at::Tensor& rest) {
  if (rest.defined()) sum.add_(at::nan_to_num(rest, 0, 0, 0));
}

// Batches or heads that share an element of grad_logits or grad_pair go one after another: they are added up in their
// order, and no two items write to one element at once.
template <class T>
void run_in_order(const BackwardTensors& tensors, const Settings& settings) {
  const auto shared = [&](const at::Tensor& sum, int64_t dim, int64_t size) {
    return sum.defined() && size > 1 && sum.size(dim) == 1;
  };
  const auto one_by_one = [&](Dim dim, int64_t size, bool pair_is_shared) {
    for (int64_t i = 0; i < size; ++i) {
      BackwardTensors one = select(tensors, dim, i);
      one.add_to_grad_pair |= pair_is_shared && i > 0;
      run_in_order<T>(one, settings);
    }
  };
  const int64_t B = tensors.q.size(0), H = tensors.q.size(3);
  const bool pair_over_b = shared(tensors.grad_pair, 0, B), pair_over_h = shared(tensors.grad_pair, 1, H);
  if (pair_over_b || shared(tensors.grad_logits, 0, B)) {
    one_by_one(Dim::kBatch, B, pair_over_b);
  } else if (pair_over_h || shared(tensors.grad_logits, 2, H)) {
    one_by_one(Dim::kHead, H, pair_over_h);
  } else {
    run_backward<T>(tensors, settings);
  }
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, std::vector<at::Tensor>> differentiate(
    const at::Tensor& grad_out, const std::optional<at::Tensor>& grad_log_sum_exp, const at::Tensor& q,
    const at::Tensor& k, const at::Tensor& v, at::TensorList biases, const at::Tensor& out,
    const at::Tensor& log_sum_exp, const at::Tensor& lse_correction, std::optional<double> scale,
    std::string_view fully_masked, c10::List<bool> bias_needs_grad) {
  const Settings settings = check_backward_arguments(grad_out, grad_log_sum_exp, q, k, v, biases, out, log_sum_exp,
                                                     lse_correction, scale, fully_masked, bias_needs_grad);
  if (q.numel() == 0) return zero_gradients(q, k, v, biases, bias_needs_grad);
  const LogitGradients sums = allocate_logit_gradients(q, k, biases, bias_needs_grad);
  BackwardTensors tensors{.q = q,
                          .k = k,
                          .v = v,
                          .out = out,
                          .log_sum_exp = log_sum_exp,
                          .lse_correction = lse_correction,
                          .grad_out = grad_out,
                          .grad_log_sum_exp = grad_log_sum_exp.value_or(at::Tensor()),
                          .biases = biases.vec(),
                          .grad_q = contiguous_like(q),
                          .grad_k = contiguous_like(k),
                          .grad_v = contiguous_like(v),
                          .grad_pair = sums.pair,
                          .grad_mask = sums.mask};
  with_element_type(q.scalar_type(), [&]<class T>(T) {
    // The kernels fill one grad_logits a call. Each further one takes another call, which writes the rest again.
    for (size_t i = 0; i < std::max<size_t>(1, sums.logits.size()); ++i) {
      if (i > 0) tensors.grad_pair = tensors.grad_mask = at::Tensor();
      if (i < sums.logits.size()) tensors.grad_logits = sums.logits[i];
      tensors.grad_pair_rest = rest_of(tensors.grad_pair, q, 1);
      tensors.grad_logits_rest = rest_of(tensors.grad_logits, q, 2);
      run_in_order<T>(tensors, settings);
      join(tensors.grad_pair, tensors.grad_pair_rest);
      join(tensors.grad_logits, tensors.grad_logits_rest);
    }
  });
  return {tensors.grad_q, tensors.grad_k, tensors.grad_v,
          bias_gradients(sums, {q, v, grad_out, log_sum_exp, tensors.grad_log_sum_exp}, biases, bias_needs_grad,
                         settings.fully_masked)};
}

}  // namespace

TORCH_LIBRARY_IMPL(longfold, CPU, m) {
  m.impl("evoformer_attention", in_either_layout<attend>);
  m.impl("evoformer_attention_backward", in_either_layout<differentiate>);
}

}  // namespace longfold::ops
