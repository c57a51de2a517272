#include "longfold/ops/causal_attention.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include "longfold/ops/causal/dispatch.h"

namespace longfold::ops {
namespace {

template <class Signature>
auto find_op(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> call_causal_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                       const std::optional<at::Tensor>& documents, int64_t window,
                                                       std::optional<double> scale, int64_t first_query) {
  static const auto op = find_op<CausalForwardSignature>("longfold::causal_attention");
  return op.call(q, k, v, documents, window, scale, first_query);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> call_causal_backward(
    const at::Tensor& grad_out, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
    const at::Tensor& log_sum_exp, const std::optional<at::Tensor>& documents, int64_t window,
    std::optional<double> scale, int64_t first_query) {
  static const auto op = find_op<CausalBackwardSignature>("longfold::causal_attention_backward");
  return op.call(grad_out, q, k, v, out, log_sum_exp, documents, window, scale, first_query);
}

CausalAttentionResult causal_attention_with_log_sum_exp(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                        const CausalAttentionOptions& options) {
  auto [out, log_sum_exp] =
      call_causal_forward(q, k, v, options.documents, options.window, options.scale, options.first_query);
  return {std::move(out), std::move(log_sum_exp)};
}

at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const CausalAttentionOptions& options) {
  return causal_attention_with_log_sum_exp(q, k, v, options).out;
}

CausalAttentionGradients causal_attention_backward(const at::Tensor& grad_out, const at::Tensor& q, const at::Tensor& k,
                                                   const at::Tensor& v, const CausalAttentionResult& result,
                                                   const CausalAttentionOptions& options) {
  auto [grad_q, grad_k, grad_v] =
      call_causal_backward(grad_out, q, k, v, result.out, result.log_sum_exp, options.documents, options.window,
                           options.scale, options.first_query);
  return {std::move(grad_q), std::move(grad_k), std::move(grad_v)};
}

}  // namespace longfold::ops
