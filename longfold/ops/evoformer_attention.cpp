#include "longfold/ops/evoformer_attention.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include "longfold/ops/dispatch.h"

namespace longfold::ops {
namespace {

template <class Signature>
auto find_op(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor> call_forward(const at::Tensor& q, const at::Tensor& k,
                                                            const at::Tensor& v, at::TensorList biases,
                                                            std::optional<double> scale, std::string_view fully_masked,
                                                            bool heads_first) {
  static const auto op = find_op<ForwardSignature>("longfold::evoformer_attention");
  return op.call(q, k, v, biases, scale, fully_masked, heads_first);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, std::vector<at::Tensor>> call_backward(
    const at::Tensor& grad_out, const std::optional<at::Tensor>& grad_log_sum_exp, const at::Tensor& q,
    const at::Tensor& k, const at::Tensor& v, at::TensorList biases, const at::Tensor& out,
    const at::Tensor& log_sum_exp, const at::Tensor& lse_correction, std::optional<double> scale,
    std::string_view fully_masked, c10::List<bool> bias_needs_grad, bool heads_first) {
  static const auto op = find_op<BackwardSignature>("longfold::evoformer_attention_backward");
  return op.call(grad_out, grad_log_sum_exp, q, k, v, biases, out, log_sum_exp, lse_correction, scale, fully_masked,
                 std::move(bias_needs_grad), heads_first);
}

EvoformerAttentionResult evoformer_attention_with_log_sum_exp(const at::Tensor& q, const at::Tensor& k,
                                                              const at::Tensor& v, at::TensorList biases,
                                                              const EvoformerAttentionOptions& options) {
  auto [out, log_sum_exp, lse_correction] =
      call_forward(q, k, v, biases, options.scale, options.fully_masked == FullyMasked::kMean ? "mean" : "zero", false);
  return {std::move(out), std::move(log_sum_exp)};
}

at::Tensor evoformer_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, at::TensorList biases,
                               const EvoformerAttentionOptions& options) {
  return evoformer_attention_with_log_sum_exp(q, k, v, biases, options).out;
}

}  // namespace longfold::ops
