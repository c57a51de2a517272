// Shapes and dtypes of the results without data: for torch.compile, fake tensors and the meta device.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/core/SymIntArrayRef.h>
#include <torch/library.h>

#include <algorithm>

#include "longfold/kernels/causal_attention.h"
#include "longfold/ops/causal/check_arguments.h"
#include "longfold/ops/check_arguments.h"

namespace longfold::ops {
namespace {

at::Tensor contiguous_like(const at::Tensor& tensor) {
  return at::empty_symint(tensor.sym_sizes(), tensor.options(), at::MemoryFormat::Contiguous);
}

// Takes and gives back as much as the CPU does for a while in a call, so that a dry run counts it: a workspace in
// backward, and each thread's scratch. Plans are made of sizes and documents alone. Not where sizes are symbols, as in
// a compiler; documents without data count as one a row. float64 has neither.
template <class Args>
void count_memory(const at::Tensor& q, const at::Tensor& k, const std::optional<at::Tensor>& documents, int64_t window,
                  int64_t first_query) {
  const auto q_sizes = c10::asIntArrayRefSlowOpt(q.sym_sizes()), k_sizes = c10::asIntArrayRefSlowOpt(k.sym_sizes());
  if (!q_sizes || !k_sizes || q.scalar_type() == at::kDouble || q.sym_numel() == 0) return;
  const bool has_data = documents && documents->is_cpu();
  const std::vector<int64_t> starts =
      checked_documents(has_data ? documents : std::nullopt, (*q_sizes)[0], (*q_sizes)[1]);
  Args args;  // both are in fp32 for any of the other types
  std::ranges::copy(*q_sizes, args.q.sizes.begin());
  std::ranges::copy(*k_sizes, args.k.sizes.begin());
  args.documents = starts;
  args.window = window;
  args.first_query = first_query;
  int64_t bytes = 0;
  if constexpr (std::is_same_v<Args, kernels::CausalForwardArgs<float>>) {
    bytes = at::get_num_threads() * kernels::plan_causal_forward(args).scratch_bytes;
  } else {
    const kernels::CausalBackwardPlan plan = kernels::plan_causal_backward(args);
    bytes = plan.workspace_bytes + at::get_num_threads() * plan.scratch_bytes;
  }
  (void)at::empty({bytes}, q.options().dtype(at::kByte));
}

std::tuple<at::Tensor, at::Tensor> attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                          const std::optional<at::Tensor>& documents, int64_t window,
                                          std::optional<double> scale, int64_t first_query) {
  check_causal_arguments(q, k, v, documents, window, scale, first_query);
  auto log_sum_exp = at::empty_symint({q.sym_size(0), q.sym_size(2), q.sym_size(1)},
                                      q.options().dtype(accumulator_type(q.scalar_type())));
  std::tuple results{contiguous_like(q), std::move(log_sum_exp)};
  count_memory<kernels::CausalForwardArgs<float>>(q, k, documents, window, first_query);
  return results;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> differentiate(const at::Tensor& grad_out, const at::Tensor& q,
                                                             const at::Tensor& k, const at::Tensor& v,
                                                             const at::Tensor& out, const at::Tensor& log_sum_exp,
                                                             const std::optional<at::Tensor>& documents, int64_t window,
                                                             std::optional<double> scale, int64_t first_query) {
  check_causal_backward_arguments(grad_out, q, k, v, out, log_sum_exp, documents, window, scale, first_query);
  std::tuple results{contiguous_like(q), contiguous_like(k), contiguous_like(v)};
  count_memory<kernels::CausalBackwardArgs<float>>(q, k, documents, window,
                                                   first_query);  // while the results are there, as on the CPU
  return results;
}

}  // namespace

TORCH_LIBRARY_IMPL(longfold, Meta, m) {
  m.impl("causal_attention", attend);
  m.impl("causal_attention_backward", differentiate);
}

}  // namespace longfold::ops
