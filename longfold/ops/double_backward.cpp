#include "longfold/ops/double_backward.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <algorithm>
#include <mutex>

#include "longfold/ops/layout.h"

namespace longfold::ops {
namespace {

using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

// What the backward op was called with, or gradients for it. Heads before lengths, [B, N, H, L, D], all of the type
// that sums are kept in; undefined: zero.
struct Values {
  at::Tensor grad_out{}, grad_lse{}, q, k, v;
  std::vector<at::Tensor> biases{};
};

// What does not depend on the values' bits: which keys are hidden ([B, N, 1, 1, Lk], undefined: none), and which rows
// are fully masked ([B, N, H, Lq, 1]).
struct Masks {
  at::Tensor hidden, rows;

  // Logits, or gradients of logits, of hidden keys become `value`.
  [[nodiscard]] at::Tensor fill(const at::Tensor& logits, double value) const {
    return hidden.defined() ? logits.masked_fill(hidden, value) : logits;
  }
  // Zeros for hidden keys, of which nothing may pass on, not even NaN; [B, N, H, Lk, D].
  [[nodiscard]] at::Tensor clear(const at::Tensor& keys) const {
    return hidden.defined() ? keys.masked_fill(hidden.transpose(-1, -2), 0) : keys;
  }
};

// With five dimensions.
at::Tensor all_dims(at::Tensor bias) {
  while (bias.dim() < 5) bias = bias.unsqueeze(0);
  return bias;
}

at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  return at::matmul(a, b.transpose(-1, -2));
}

// An undefined tensor is a zero.
at::Tensor sum(const at::Tensor& a, const at::Tensor& b) {
  return !a.defined() ? b : !b.defined() ? a : a + b;
}

at::Tensor logits(const Values& x, const Masks& masks, double scale, bool finite_biases) {
  at::Tensor s = product(x.q, x.k) * scale;
  for (const at::Tensor& bias : x.biases) s = s + (finite_biases ? bias.masked_fill(bias.isinf(), 0) : bias);
  return masks.fill(s, kernels::kHiddenLogit);
}

// The softmax weights; those of fully masked rows are zero or uniform.
at::Tensor weights(const Values& x, const Masks& masks, const Settings& settings) {
  const at::Tensor& masked = masks.rows;
  at::Tensor s = logits(x, masks, settings.scale, false).masked_fill(masked, 0);
  if (settings.fully_masked == kernels::FullyMasked::kZero) return at::softmax(s, -1).masked_fill(masked, 0);
  if (at::GradMode::is_enabled()) {  // zeros that pass gradients on to the logits, as the weights' formula has them
    const at::Tensor finite = logits(x, masks, settings.scale, true);
    s = s + (finite - finite.detach()).masked_fill(masked.logical_not(), 0);
  }
  return at::softmax(s, -1);
}

// The backward op is, with p the weights and g = grad_out,
//
//   grad_v = p^T g   a = g v^T   ds = p (a - sum of p a + grad_lse)   grad_q = scale ds k   grad_k = scale ds^T q
//
// and a sum of ds for each bias; ds is zero for hidden keys. This is the gradient of the inner product of all these
// with `gradients`.
Values differentiate(const Values& x, const Values& gradients, const Masks& masks, const Settings& settings) {
  const double scale = settings.scale;
  const at::Tensor p = weights(x, masks, settings), a = product(x.grad_out, x.v);
  at::Tensor centred = a - (p * a).sum(-1, true);
  if (x.grad_lse.defined()) centred = centred + x.grad_lse.unsqueeze(-1);
  const at::Tensor ds = masks.fill(p * centred, 0);

  at::Tensor to_ds;
  if (gradients.q.defined()) to_ds = sum(to_ds, product(gradients.q, x.k) * scale);
  if (gradients.k.defined()) to_ds = sum(to_ds, product(x.q, gradients.k) * scale);
  for (const at::Tensor& bias : gradients.biases) to_ds = sum(to_ds, bias);
  to_ds = to_ds.defined() ? masks.fill(to_ds, 0) : at::zeros({1, 1, 1, 1, 1}, p.options());

  const at::Tensor mean = (p * to_ds).sum(-1, true);
  const at::Tensor to_a = p * (to_ds - mean);
  at::Tensor to_p = to_ds * centred - mean * a;
  if (gradients.v.defined()) to_p = to_p + product(x.grad_out, gradients.v);
  const at::Tensor to_logits = masks.fill(p * (to_p - (p * to_p).sum(-1, true)), 0);

  Values result{.grad_out = at::matmul(to_a, x.v),
                .grad_lse = mean.squeeze(-1),
                .q = at::matmul(to_logits, x.k) * scale,
                .k = at::matmul(to_logits.transpose(-1, -2), x.q) * scale,
                .v = at::matmul(to_a.transpose(-1, -2), x.grad_out)};
  if (gradients.v.defined()) result.grad_out = result.grad_out + at::matmul(p, gradients.v);
  if (gradients.k.defined()) result.q = result.q + at::matmul(ds, gradients.k) * scale;
  if (gradients.q.defined()) result.k = result.k + at::matmul(ds.transpose(-1, -2), gradients.q) * scale;
  result.k = masks.clear(result.k);
  for (const at::Tensor& bias : x.biases) result.biases.push_back(to_logits.sum_to_size_symint(bias.sym_sizes()));
  return result;
}

struct EvoformerAttentionDoubleBackward : public torch::autograd::Node {
  SavedVariable grad_out, grad_lse, q, k, v, log_sum_exp;
  std::vector<SavedVariable> biases;
  Settings settings;
  bool heads_first = false;

  std::string name() const override { return "EvoformerAttentionDoubleBackward"; }

  // Gradients of q, k, v, and of the biases that have one, to those of grad_out, grad_lse, q, k, v and all biases.
  variable_list apply(variable_list&& gradients) override {
    const std::lock_guard lock(mutex_);
    variable_list result(5 + biases.size());
    if (std::none_of(gradients.begin(), gradients.end(), [](const at::Tensor& g) { return g.defined(); }))
      return result;
    // Autocast would round what is widened here on purpose.
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const at::Tensor q_value = q.unpack(), lse_value = log_sum_exp.unpack();
    const auto type = accumulator_type(q_value.scalar_type());
    const auto wide = [&](const at::Tensor& x) { return x.defined() ? x.to(type) : x; };
    const auto by_head = [&](const at::Tensor& x) {
      return x.defined() ? lengths_first(x.to(type), heads_first).transpose(2, 3) : x;
    };
    Values x{.grad_out = by_head(grad_out.unpack()),
             .grad_lse = grad_lse.unpack(),
             .q = by_head(q_value),
             .k = by_head(k.unpack()),
             .v = by_head(v.unpack())};
    Masks masks{.hidden = {}, .rows = lse_value.le(kernels::kFullyMaskedLogit).unsqueeze(-1)};
    std::vector<at::ScalarType> bias_types;
    for (const SavedVariable& saved : biases) {
      const at::Tensor bias = saved.unpack();
      bias_types.push_back(bias.scalar_type());
      if (bias.scalar_type() == at::kBool) {
        const at::Tensor hidden = all_dims(bias.logical_not());
        masks.hidden = masks.hidden.defined() ? masks.hidden.logical_or(hidden) : hidden;
      } else {
        x.biases.push_back(wide(bias));
      }
    }
    x.k = masks.clear(x.k);
    Values of{.q = by_head(gradients[0]), .k = by_head(gradients[1]), .v = by_head(gradients[2])};
    for (size_t i = 3; i < gradients.size(); ++i) of.biases.push_back(wide(gradients[i]));
    const Values to = differentiate(x, of, masks, settings);

    const auto set = [&](size_t i, const at::Tensor& value, at::ScalarType narrow) {
      if (task_should_compute_output(i)) result[i] = value.to(narrow);
    };
    const auto set_rows = [&](size_t i, const at::Tensor& value) {
      set(i, as_given(value.transpose(2, 3), q_value, heads_first), q_value.scalar_type());
    };
    set_rows(0, to.grad_out);
    set(1, to.grad_lse, type);
    set_rows(2, to.q);
    set_rows(3, to.k);
    set_rows(4, to.v);
    size_t next = 0;
    for (size_t i = 0; i < biases.size(); ++i) {
      if (bias_types[i] != at::kBool) set(5 + i, to.biases[next++], bias_types[i]);
    }
    return result;
  }

  void release_variables() override {
    const std::lock_guard lock(mutex_);
    for (SavedVariable* saved : {&grad_out, &grad_lse, &q, &k, &v, &log_sum_exp}) saved->reset_data();
    for (SavedVariable& saved : biases) saved.reset_data();
  }
};

}  // namespace

void make_differentiable(const Gradients& gradients, const at::Tensor& grad_out,
                         const std::optional<at::Tensor>& grad_log_sum_exp, const at::Tensor& q, const at::Tensor& k,
                         const at::Tensor& v, at::TensorList biases, const at::Tensor& log_sum_exp,
                         const Settings& settings, bool heads_first) {
  if (!torch::autograd::compute_requires_grad(grad_out, grad_log_sum_exp, q, k, v, biases)) return;
  const auto node = std::shared_ptr<EvoformerAttentionDoubleBackward>(new EvoformerAttentionDoubleBackward,
                                                                      torch::autograd::deleteNode);
  node->set_next_edges(torch::autograd::collect_next_edges(grad_out, grad_log_sum_exp, q, k, v, biases));
  node->grad_out = SavedVariable(grad_out, false);
  node->grad_lse = SavedVariable(grad_log_sum_exp, false);
  node->q = SavedVariable(q, false);
  node->k = SavedVariable(k, false);
  node->v = SavedVariable(v, false);
  node->log_sum_exp = SavedVariable(log_sum_exp.detach(), false);
  for (const at::Tensor& bias : biases) node->biases.emplace_back(bias, false);
  node->settings = settings;
  node->heads_first = heads_first;
  for (const at::Tensor& gradient : {gradients.q, gradients.k, gradients.v}) {
    torch::autograd::set_history(gradient, node);
  }
  for (const at::Tensor& gradient : gradients.biases) torch::autograd::set_history(gradient, node);
}

}  // namespace longfold::ops
