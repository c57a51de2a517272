#include "longfold/model/linear.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/List.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <vector>

#include "longfold/base/error.h"

namespace longfold::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

bool is_amd() {
#if defined(__x86_64__)
  return __builtin_cpu_is("amd") != 0;
#else
  return false;
#endif
}

// Whether the CPU multiplies the type by instructions of its own.
bool has_products_of(at::ScalarType dtype) {
#if defined(__x86_64__)
  if (dtype == at::kBFloat16) return __builtin_cpu_supports("avx512bf16") != 0;
#endif
  return dtype == at::kFloat;
}

// a [M, K] times b [N, K] transposed, plus bias [N]. oneDNN reads both with any strides.
at::Tensor product(const at::Tensor& a, const at::Tensor& b, const std::optional<at::Tensor>& bias = std::nullopt) {
  const at::ScalarType dtype = a.scalar_type();
  if (!has_products_of(dtype)) {
    const auto wide_bias = bias ? std::optional(bias->to(at::kFloat)) : std::nullopt;
    return product(a.to(at::kFloat), b.to(at::kFloat), wide_bias).to(dtype);
  }
  if (a.is_meta()) {
    std::vector<int64_t> sizes = a.sizes().vec();
    sizes.back() = b.size(0);
    return at::empty(sizes, a.options());
  }
  using Signature = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, std::string_view,
                               c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_linear_pointwise", "").typed<Signature>();
  return op.call(a, b, bias, "none", c10::List<std::optional<at::Scalar>>(), "");
}

class OnednnLinear : public torch::autograd::Function<OnednnLinear> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias) {
    context->save_for_backward({input, weight});
    context->saved_data["has_bias"] = bias.has_value();
    const at::AutoDispatchBelowADInplaceOrView below;
    return product(input, weight, bias);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor grad = grads[0].contiguous().flatten(0, -2), input = saved[0].flatten(0, -2);  // [T, out], [T, in]
    variable_list result(3);
    if (context->needs_input_grad(0)) result[0] = product(grad, saved[1].t()).view_as(saved[0]);
    if (context->needs_input_grad(1)) {
      // oneDNN copies a first factor that does not lie along the summed tokens, and is fast if one of the two does: the
      // narrower one is copied, and comes first.
      result[1] = grad.size(1) <= input.size(1) ? product(grad.t().contiguous(), input.t())
                                                : product(input.t().contiguous(), grad.t()).t().contiguous();
    }
    if (context->saved_data["has_bias"].toBool() && context->needs_input_grad(2)) result[2] = grad.sum(0);
    return result;
  }
};

}  // namespace

LinearEngine linear_engine(std::string_view name, at::ScalarType dtype) {
  if (name == "torch") return LinearEngine::kTorch;
  if (name == "onednn") return LinearEngine::kOnednn;
  if (name == "auto") return dtype != at::kFloat || is_amd() ? LinearEngine::kOnednn : LinearEngine::kTorch;
  throw base::UserError("expected compute.linear to be auto, torch or onednn, got \"" + std::string(name) + "\"");
}

std::string to_string(LinearEngine engine) {
  return engine == LinearEngine::kOnednn ? "onednn" : "torch";
}

at::Tensor linear(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias, LinearEngine engine) {
  const at::ScalarType dtype = input.scalar_type();
  const bool suits = (input.is_cpu() || input.is_meta()) && dtype == weight.scalar_type() &&
                     (dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf);
  if (engine == LinearEngine::kTorch || !suits) return at::linear(input, weight, bias);
  return OnednnLinear::apply(input, weight, bias.defined() ? std::optional(bias) : std::nullopt);
}

}  // namespace longfold::model
