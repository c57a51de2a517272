#include "longfold/ops/bias_gradients.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>

#include "longfold/ops/check_arguments.h"
#include "longfold/ops/sum_to.h"

namespace longfold::ops {
namespace {

// Which sum a bias's gradient is made of.
enum class Kind {
  kShift,   // the same for all keys: grad_log_sum_exp
  kMask,    // the same for all queries
  kPair,    // the same for all rows
  kLogits,  // varies over rows, queries and keys
};

bool varies_over(const at::Tensor& bias, int64_t dim_from_end) {
  return bias.dim() >= dim_from_end && bias.size(-dim_from_end) != 1;
}

Kind kind_of(const at::Tensor& q, const at::Tensor& bias) {
  if (!varies_over(bias, 1)) return Kind::kShift;
  // With a single query both sums would do; the one over rows is N times smaller.
  if (q.size(2) == 1 && !varies_over(bias, 4)) return Kind::kPair;
  if (!varies_over(bias, 2)) return Kind::kMask;
  return varies_over(bias, 4) ? Kind::kLogits : Kind::kPair;
}

std::vector<int64_t> five_sizes(const at::Tensor& bias) {
  std::vector<int64_t> sizes(5, 1);
  std::copy(bias.sizes().begin(), bias.sizes().end(), sizes.end() - bias.dim());
  return sizes;
}

// What uniform weights would give the logits of hidden keys, whose logits are constants: summed over these, as
// [B, N, H, Lq]. `hidden` is [B, N, 1, 1, Lk] or broadcasts to it.
at::Tensor grad_of_hidden_keys(const BackwardInputs& inputs, const at::Tensor& grad_lse, const at::Tensor& hidden) {
  const auto type = inputs.log_sum_exp.scalar_type();
  const at::Tensor v = inputs.v.to(type).transpose(2, 3), grad_out = inputs.grad_out.to(type).transpose(2, 3);
  const at::Tensor share = hidden.to(type).expand({v.size(0), v.size(1), 1, 1, v.size(3)}) / v.size(3);
  const at::Tensor all = share.sum(-1, true);
  const at::Tensor values = at::matmul(share, v) - all * v.mean(3, true);
  return (grad_out * values).sum(-1) + grad_lse * all.squeeze(-1);
}

// As [B, N, H, Lq, 1], in memory of its own.
at::Tensor grad_of_shift(const BackwardInputs& inputs, at::TensorList biases, kernels::FullyMasked fully_masked) {
  const at::Tensor& lse = inputs.log_sum_exp;
  const at::Tensor masked = lse.le(kernels::kFullyMaskedLogit);
  const at::Tensor grad = inputs.grad_log_sum_exp.defined() ? inputs.grad_log_sum_exp : at::zeros_like(lse);
  at::Tensor owed = fully_masked == kernels::FullyMasked::kMean ? at::zeros_like(lse) : grad;
  at::Tensor hidden;
  for (const at::Tensor& bias : biases) {
    if (bias.scalar_type() == at::kBool) {
      hidden = hidden.defined() ? hidden.logical_or(bias.logical_not()) : bias.logical_not();
    }
  }
  if (hidden.defined() && fully_masked == kernels::FullyMasked::kMean) {
    owed = grad_of_hidden_keys(inputs, grad, hidden);
  }
  return at::where(masked, grad - owed, grad).contiguous().unsqueeze(-1);
}

}  // namespace

LogitGradients allocate_logit_gradients(const at::Tensor& q, const at::Tensor& k, at::TensorList biases,
                                        const c10::List<bool>& bias_needs_grad) {
  LogitGradients result;
  const auto options = q.options().dtype(accumulator_type(q.scalar_type()));
  bool any_pair = false;
  int64_t pair_batches = 1, pair_heads = 1;
  for (size_t i = 0; i < biases.size(); ++i) {
    if (!bias_needs_grad[i]) continue;
    const Kind kind = kind_of(q, biases[i]);
    if (kind == Kind::kPair) {
      any_pair = true;
      pair_batches = std::max(pair_batches, five_sizes(biases[i])[0]);
      pair_heads = std::max(pair_heads, five_sizes(biases[i])[2]);
    } else if (kind == Kind::kMask && !result.mask.defined()) {
      result.mask = at::empty({q.size(0), q.size(1), q.size(3), k.size(2)}, options);
    } else if (kind == Kind::kLogits) {
      const auto sizes = five_sizes(biases[i]);
      const auto is_ours = [&](const at::Tensor& sum) { return sum.sizes() == sizes; };
      if (std::none_of(result.logits.begin(), result.logits.end(), is_ours)) {
        result.logits.push_back(at::zeros(sizes, options));
      }
    }
  }
  if (any_pair) result.pair = at::empty({pair_batches, pair_heads, q.size(2), k.size(2)}, options);
  return result;
}

std::vector<at::Tensor> bias_gradients(const LogitGradients& sums, const BackwardInputs& inputs, at::TensorList biases,
                                       const c10::List<bool>& bias_needs_grad, kernels::FullyMasked fully_masked) {
  // As [B, N, H, Lq, Lk], with size 1 where it was summed.
  const auto sum_for = [&](const at::Tensor& bias) {
    switch (kind_of(inputs.q, bias)) {
      case Kind::kPair:
        return sums.pair.unsqueeze(1);
      case Kind::kMask:
        return sums.mask.unsqueeze(3);
      case Kind::kShift:
        return grad_of_shift(inputs, biases, fully_masked);
      case Kind::kLogits:
        break;
    }
    const auto sizes = five_sizes(bias);
    return *std::find_if(sums.logits.begin(), sums.logits.end(),
                         [&](const at::Tensor& sum) { return sum.sizes() == sizes; });
  };
  std::vector<at::Tensor> result;
  for (size_t i = 0; i < biases.size(); ++i) {
    if (!bias_needs_grad[i]) continue;
    at::Tensor grad = sum_to(sum_for(biases[i]), biases[i]);
    // Gradients are added to in place later on, so no two of them may share memory.
    const auto shares = [&](const at::Tensor& other) { return grad.is_alias_of(other); };
    if (std::any_of(result.begin(), result.end(), shares)) grad = grad.clone();
    result.push_back(std::move(grad));
  }
  return result;
}

}  // namespace longfold::ops
