// The backward op under the vmap inside torch's autograd: torch.autograd.grad(..., is_grads_batched=True),
// jacobian(vectorize=True) and gradcheck(check_batched_grad=True) call it with batched gradients. torch.func.vmap is
// another mechanism, see python/longfold/_vmap.py. Each example is a call of its own here too, so that its bits are
// those of that call.
#include <ATen/LegacyVmapTransforms.h>
#include <ATen/ops/stack.h>
#include <torch/library.h>

#include "longfold/ops/dispatch.h"

namespace longfold::ops {
namespace {

// Stacks of results, one for each tensor: grad_q, grad_k, grad_v, and those of biases.
using Columns = std::vector<std::vector<at::Tensor>>;

// Number `index` of all that the leading dims, batch_sizes, count.
std::vector<at::Tensor> example(const std::vector<at::Tensor>& all, at::IntArrayRef batch_sizes, int64_t index) {
  std::vector<at::Tensor> result = all;
  for (at::Tensor& tensor : result) {
    int64_t rest = index, examples = 1;
    for (const int64_t size : batch_sizes) examples *= size;
    for (const int64_t size : batch_sizes) {
      examples /= size;
      tensor = tensor.select(0, rest / examples);
      rest %= examples;
    }
  }
  return result;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, std::vector<at::Tensor>> backward(
    const at::Tensor& grad_out, const std::optional<at::Tensor>& grad_log_sum_exp, const at::Tensor& q,
    const at::Tensor& k, const at::Tensor& v, at::TensorList biases, const at::Tensor& out,
    const at::Tensor& log_sum_exp, const at::Tensor& lse_correction, std::optional<double> scale,
    std::string_view fully_masked, c10::List<bool> bias_needs_grad, bool heads_first) {
  std::vector<at::Tensor> logical{grad_out, q, k, v, out, log_sum_exp, lse_correction};
  logical.insert(logical.end(), biases.begin(), biases.end());
  if (grad_log_sum_exp) logical.push_back(*grad_log_sum_exp);
  const auto views = at::MultiBatchVmapTransform::logicalToPhysical(at::ITensorListRef(logical));
  const auto to_logical = views.front().getPhysicalToLogicalMap();
  const auto num_batch_dims = static_cast<size_t>(views.front().numBatchDims());
  std::vector<at::Tensor> physical;
  for (const auto& view : views) physical.push_back(view.tensor());
  const std::vector<int64_t> batch_sizes = physical.front().sizes().slice(0, num_batch_dims).vec();
  int64_t examples = 1;
  for (const int64_t size : batch_sizes) examples *= size;

  Columns columns;
  for (int64_t i = 0; i < examples; ++i) {  // torch sees to it that there is one
    const std::vector<at::Tensor> x = example(physical, batch_sizes, i);
    const auto first_bias = x.begin() + 7;
    const auto last_bias = first_bias + static_cast<int64_t>(biases.size());
    const std::vector<at::Tensor> bias_examples(first_bias, last_bias);
    const auto grad_lse = grad_log_sum_exp ? std::optional(x.back()) : std::nullopt;
    auto [grad_q, grad_k, grad_v, grad_biases] =
        call_backward(x[0], grad_lse, x[1], x[2], x[3], bias_examples, x[4], x[5], x[6], scale, fully_masked,
                      bias_needs_grad, heads_first);
    std::vector<at::Tensor> results{grad_q, grad_k, grad_v};
    results.insert(results.end(), grad_biases.begin(), grad_biases.end());
    columns.resize(results.size());
    for (size_t r = 0; r < results.size(); ++r) columns[r].push_back(std::move(results[r]));
  }
  std::vector<at::Tensor> stacked;
  for (const auto& column : columns) {
    std::vector<int64_t> sizes = batch_sizes;
    sizes.insert(sizes.end(), column.front().sizes().begin(), column.front().sizes().end());
    stacked.push_back(to_logical.apply(at::stack(column).view(sizes)));
  }
  return {stacked[0], stacked[1], stacked[2], {stacked.begin() + 3, stacked.end()}};
}

}  // namespace

TORCH_LIBRARY_IMPL(longfold, Batched, m) {
  m.impl("evoformer_attention_backward", backward);
}

}  // namespace longfold::ops
