// The derivative of the forward op, in C++ so that C++ trains too. A Node of our own rather than
// torch::autograd::Function, which neither sees variables inside a Tensor[] nor works under torch.func transforms.
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/library.h>

#include <mutex>

#include "longfold/ops/check_arguments.h"
#include "longfold/ops/double_backward.h"
#include "longfold/ops/layout.h"

namespace longfold::ops {
namespace {

using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

// Computes the gradients of q, k, v and of the biases that need one, from those of out and log_sum_exp.
struct EvoformerAttentionBackward : public torch::autograd::Node {
  SavedVariable q, k, v, out, log_sum_exp, lse_correction;
  std::vector<SavedVariable> biases;
  std::optional<double> scale;
  std::string fully_masked;
  bool heads_first = false;

  std::string name() const override { return "EvoformerAttentionBackward"; }

  variable_list apply(variable_list&& grads) override {
    const std::lock_guard lock(mutex_);
    variable_list result(3 + biases.size());
    if (!grads[0].defined() && !grads[1].defined()) return result;
    const auto self = getptr();
    const at::Tensor out_value = out.unpack(self), lse_value = log_sum_exp.unpack(self);
    const at::Tensor correction_value = lse_correction.unpack();
    std::vector<at::Tensor> bias_values;
    c10::List<bool> bias_needs_grad;
    for (size_t i = 0; i < biases.size(); ++i) {
      bias_values.push_back(biases[i].unpack());
      bias_needs_grad.push_back(task_should_compute_output(3 + i));
    }
    const at::Tensor grad_out =
        grads[0].defined() ? grads[0] : at::zeros({}, out_value.options()).expand_symint(out_value.sym_sizes());
    const auto grad_lse = grads[1].defined() ? std::optional(grads[1]) : std::nullopt;
    auto [grad_q, grad_k, grad_v, grad_biases] =
        call_backward(grad_out, grad_lse, q.unpack(), k.unpack(), v.unpack(), bias_values, out_value, lse_value,
                      correction_value, scale, fully_masked, bias_needs_grad, heads_first);
    result[0] = std::move(grad_q);
    result[1] = std::move(grad_k);
    result[2] = std::move(grad_v);
    size_t next = 0;
    for (size_t i = 0; i < biases.size(); ++i) {
      if (bias_needs_grad[i]) result[3 + i] = std::move(grad_biases[next++]);
    }
    return result;
  }

  void release_variables() override {
    const std::lock_guard lock(mutex_);
    for (SavedVariable* saved : {&q, &k, &v, &out, &log_sum_exp, &lse_correction}) saved->reset_data();
    for (SavedVariable& saved : biases) saved.reset_data();
  }
};

void refuse_forward_mode(const char* op, std::initializer_list<at::Tensor> tensors, at::TensorList biases) {
  bool has_tangent = torch::autograd::isFwGradDefinedTensorList(at::ITensorListRef(biases));
  for (const at::Tensor& tensor : tensors) has_tangent |= torch::autograd::isFwGradDefined(tensor);
  TORCH_CHECK_NOT_IMPLEMENTED(!has_tangent, "[", op,
                              "] expected reverse-mode differentiation, got a forward-mode tangent");
}

std::shared_ptr<EvoformerAttentionBackward> make_node(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                      at::TensorList biases, std::optional<double> scale,
                                                      std::string_view fully_masked, bool heads_first) {
  auto node = std::shared_ptr<EvoformerAttentionBackward>(new EvoformerAttentionBackward, torch::autograd::deleteNode);
  node->set_next_edges(torch::autograd::collect_next_edges(q, k, v, biases));
  node->q = SavedVariable(q, false);
  node->k = SavedVariable(k, false);
  node->v = SavedVariable(v, false);
  for (const at::Tensor& bias : biases) node->biases.emplace_back(bias, false);
  node->scale = scale;
  node->fully_masked = std::string(fully_masked);
  node->heads_first = heads_first;
  return node;
}

Settings check(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, at::TensorList biases,
               std::optional<double> scale, std::string_view fully_masked, bool heads_first) {
  return check_arguments(lengths_first(q, heads_first), lengths_first(k, heads_first), lengths_first(v, heads_first),
                         biases, scale, fully_masked);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                       at::TensorList biases, std::optional<double> scale,
                                                       std::string_view fully_masked, bool heads_first) {
  refuse_forward_mode("evoformer_attention", {q, k, v}, biases);
  std::shared_ptr<EvoformerAttentionBackward> node;
  if (torch::autograd::compute_requires_grad(q, k, v, biases)) {
    check(q, k, v, biases, scale, fully_masked, heads_first);
    node = make_node(q, k, v, biases, scale, fully_masked, heads_first);
  }
  at::Tensor out, log_sum_exp, lse_correction;
  {
    const at::AutoDispatchBelowADInplaceOrView below;
    std::tie(out, log_sum_exp, lse_correction) = call_forward(q, k, v, biases, scale, fully_masked, heads_first);
  }
  if (node) {
    torch::autograd::set_history(out, node);
    torch::autograd::set_history(log_sum_exp, node);
    node->out = SavedVariable(out, true);
    node->log_sum_exp = SavedVariable(log_sum_exp, true);
    node->lse_correction = SavedVariable(lse_correction, false);
  }
  return {std::move(out), std::move(log_sum_exp), std::move(lse_correction)};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, std::vector<at::Tensor>> backward(
    const at::Tensor& grad_out, const std::optional<at::Tensor>& grad_log_sum_exp, const at::Tensor& q,
    const at::Tensor& k, const at::Tensor& v, at::TensorList biases, const at::Tensor& out,
    const at::Tensor& log_sum_exp, const at::Tensor& lse_correction, std::optional<double> scale,
    std::string_view fully_masked, c10::List<bool> bias_needs_grad, bool heads_first) {
  refuse_forward_mode("evoformer_attention_backward", {grad_out, q, k, v}, biases);
  auto result = [&] {
    const at::AutoDispatchBelowADInplaceOrView below;
    return call_backward(grad_out, grad_log_sum_exp, q, k, v, biases, out, log_sum_exp, lse_correction, scale,
                         fully_masked, std::move(bias_needs_grad), heads_first);
  }();
  const auto& [grad_q, grad_k, grad_v, grad_biases] = result;
  make_differentiable({grad_q, grad_k, grad_v, grad_biases}, grad_out, grad_log_sum_exp, q, k, v, biases, log_sum_exp,
                      check(q, k, v, biases, scale, fully_masked, heads_first), heads_first);
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(longfold, Autograd, m) {
  m.impl("evoformer_attention", forward);
  m.impl("evoformer_attention_backward", backward);
}

}  // namespace longfold::ops
