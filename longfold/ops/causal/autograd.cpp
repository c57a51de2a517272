// The derivative of causal attention, in C++ so that C++ trains too. The backward op has none.
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/library.h>

#include "longfold/ops/causal/dispatch.h"

namespace longfold::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class CausalAttention : public torch::autograd::Function<CausalAttention> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const std::optional<at::Tensor>& documents, int64_t window, std::optional<double> scale,
                               int64_t first_query) {
    const at::AutoDispatchBelowADInplaceOrView below;
    auto [out, log_sum_exp] = call_causal_forward(q, k, v, documents, window, scale, first_query);
    context->save_for_backward({q, k, v, out, log_sum_exp, documents.value_or(at::Tensor())});
    context->saved_data["window"] = window;
    context->saved_data["scale"] = scale;
    context->saved_data["first_query"] = first_query;
    context->mark_non_differentiable({log_sum_exp});
    return {std::move(out), std::move(log_sum_exp)};
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const auto documents = saved[5].defined() ? std::optional(saved[5]) : std::nullopt;
    auto [grad_q, grad_k, grad_v] = call_causal_backward(
        grads[0], saved[0], saved[1], saved[2], saved[3], saved[4], documents, context->saved_data["window"].toInt(),
        context->saved_data["scale"].toOptional<double>(), context->saved_data["first_query"].toInt());
    return {std::move(grad_q), std::move(grad_k), std::move(grad_v), {}, {}, {}, {}};
  }
};

std::tuple<at::Tensor, at::Tensor> forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                           const std::optional<at::Tensor>& documents, int64_t window,
                                           std::optional<double> scale, int64_t first_query) {
  for (const at::Tensor* tensor : {&q, &k, &v}) {
    TORCH_CHECK_NOT_IMPLEMENTED(!torch::autograd::isFwGradDefined(*tensor),
                                "[causal_attention] expected reverse-mode differentiation, got a forward-mode tangent");
  }
  variable_list results = CausalAttention::apply(q, k, v, documents, window, scale, first_query);
  return {std::move(results[0]), std::move(results[1])};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> backward(const at::Tensor& grad_out, const at::Tensor& q,
                                                        const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
                                                        const at::Tensor& log_sum_exp,
                                                        const std::optional<at::Tensor>& documents, int64_t window,
                                                        std::optional<double> scale, int64_t first_query) {
  TORCH_CHECK_NOT_IMPLEMENTED(!torch::autograd::compute_requires_grad(grad_out, q, k, v),
                              "[causal_attention_backward] expected first derivatives alone, got tensors that require "
                              "a gradient (create_graph)");
  const at::AutoDispatchBelowADInplaceOrView below;
  return call_causal_backward(grad_out, q, k, v, out, log_sum_exp, documents, window, scale, first_query);
}

}  // namespace

TORCH_LIBRARY_IMPL(longfold, Autograd, m) {
  m.impl("causal_attention", forward);
  m.impl("causal_attention_backward", backward);
}

}  // namespace longfold::ops
