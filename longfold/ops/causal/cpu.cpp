// The ops on the CPU: tensors to views, results allocated, items spread over threads. The arithmetic is in kernels/.
#include <torch/library.h>

#include "longfold/kernels/causal_attention.h"
#include "longfold/ops/causal/check_arguments.h"
#include "longfold/ops/check_arguments.h"
#include "longfold/ops/parallel_items.h"
#include "longfold/ops/views.h"

namespace longfold::ops {
namespace {

std::tuple<at::Tensor, at::Tensor> attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                          const std::optional<at::Tensor>& documents, int64_t window,
                                          std::optional<double> scale, int64_t first_query) {
  const double factor = check_causal_arguments(q, k, v, documents, window, scale, first_query);
  const std::vector<int64_t> starts = checked_documents(documents, q.size(0), q.size(1));
  const auto out = contiguous_like(q);
  const auto log_sum_exp =
      at::empty({q.size(0), q.size(2), q.size(1)}, q.options().dtype(accumulator_type(q.scalar_type())));
  if (out.numel() == 0) return {out, log_sum_exp};
  with_element_type(q.scalar_type(), [&]<class T>(T) {
    const kernels::CausalForwardArgs<T> args{.q = view<const T, 4>(q),
                                             .k = view<const T, 4>(k),
                                             .v = view<const T, 4>(v),
                                             .documents = starts,
                                             .window = window,
                                             .first_query = first_query,
                                             .out = view<T, 4>(out),
                                             .log_sum_exp = view<Accumulator<T>, 3>(log_sum_exp),
                                             .scale = factor};
    const kernels::CausalForwardPlan plan = kernels::plan_causal_forward(args);
    parallel_items(plan.num_items, plan.scratch_bytes, [&](int64_t begin, int64_t end, std::span<std::byte> scratch) {
      kernels::run_causal_forward(args, plan, begin, end, scratch);
    });
  });
  return {out, log_sum_exp};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> differentiate(const at::Tensor& grad_out, const at::Tensor& q,
                                                             const at::Tensor& k, const at::Tensor& v,
                                                             const at::Tensor& out, const at::Tensor& log_sum_exp,
                                                             const std::optional<at::Tensor>& documents, int64_t window,
                                                             std::optional<double> scale, int64_t first_query) {
  const double factor =
      check_causal_backward_arguments(grad_out, q, k, v, out, log_sum_exp, documents, window, scale, first_query);
  const std::vector<int64_t> starts = checked_documents(documents, q.size(0), q.size(1));
  const auto grad_q = contiguous_like(q), grad_k = contiguous_like(k), grad_v = contiguous_like(v);
  if (q.numel() == 0) return {grad_q, grad_k.zero_(), grad_v.zero_()};
  with_element_type(q.scalar_type(), [&]<class T>(T) {
    const kernels::CausalBackwardArgs<T> args{.q = view<const T, 4>(q),
                                              .k = view<const T, 4>(k),
                                              .v = view<const T, 4>(v),
                                              .documents = starts,
                                              .window = window,
                                              .first_query = first_query,
                                              .out = view<const T, 4>(out),
                                              .log_sum_exp = view<const Accumulator<T>, 3>(log_sum_exp),
                                              .grad_out = view<const T, 4>(grad_out),
                                              .grad_q = view<T, 4>(grad_q),
                                              .grad_k = view<T, 4>(grad_k),
                                              .grad_v = view<T, 4>(grad_v),
                                              .scale = factor};
    const kernels::CausalBackwardPlan plan = kernels::plan_causal_backward(args);
    const Buffer workspace(plan.workspace_bytes);
    for (size_t phase = 0; phase < plan.phases.size(); ++phase) {
      parallel_items(plan.phases[phase], plan.scratch_bytes,
                     [&](int64_t begin, int64_t end, std::span<std::byte> scratch) {
                       kernels::run_causal_backward(args, plan, static_cast<int64_t>(phase), begin, end, scratch,
                                                    workspace.bytes());
                     });
    }
  });
  return {grad_q, grad_k, grad_v};
}

}  // namespace

TORCH_LIBRARY_IMPL(longfold, CPU, m) {
  m.impl("causal_attention", attend);
  m.impl("causal_attention_backward", differentiate);
}

}  // namespace longfold::ops
