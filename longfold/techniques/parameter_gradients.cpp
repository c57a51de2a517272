#include "longfold/techniques/parameter_gradients.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function_hook.h>

#include <utility>

#include "longfold/memory/dry_run.h"

namespace longfold::techniques {
namespace {

at::Tensor wide(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? x : x.to(at::kFloat);
}

}  // namespace

ParameterGradients::ParameterGradients(variable_list parameters)
    : parameters_(std::move(parameters)), sums_(parameters_.size()), num_parts_(parameters_.size()) {}

void ParameterGradients::add(const variable_list& gradients) {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (!gradients[i].defined()) continue;
    // The first part may be memory that others write to: it is only read.
    const int64_t part = num_parts_[i]++;
    if (part == 0) {
      sums_[i] = gradients[i];
    } else if (part == 1) {
      sums_[i] = wide(sums_[i]) + gradients[i];
    } else {
      sums_[i].add_(gradients[i]);
    }
  }
}

void ParameterGradients::publish() {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    at::Tensor sum = std::move(sums_[i]);
    if (!sum.defined()) continue;
    at::Tensor& grad = parameters_[i].mutable_grad();
    if (grad.defined()) {
      grad.add_(sum);
    } else {
      const bool is_own = num_parts_[i] > 1 || (sum.use_count() == 1 && sum.storage().use_count() == 1);
      grad = sum.to(parameters_[i].scalar_type(), /*non_blocking=*/false, /*copy=*/!is_own);
      memory::assign_term(grad, memory::Term::kGradients);
    }
    sum.reset();
    if (const auto& hook = torch::autograd::impl::post_acc_grad_hooks(parameters_[i])) (*hook)(parameters_[i]);
  }
}

variable_list differentiate(const std::function<variable_list(const variable_list&)>& f, const variable_list& inputs,
                            const variable_list& grads, ParameterGradients& gradients) {
  const at::AutoGradMode with_grad(true);
  variable_list all;
  for (const at::Tensor& input : inputs) all.push_back(input.detach().requires_grad_());
  const variable_list outputs = f(all);
  all.insert(all.end(), gradients.parameters().begin(), gradients.parameters().end());
  variable_list results = torch::autograd::grad(outputs, all, grads, /*retain_graph=*/false, /*create_graph=*/false,
                                                /*allow_unused=*/true);
  const auto first = results.begin() + std::ssize(inputs);
  gradients.add({first, results.end()});
  results.erase(first, results.end());
  return results;
}

at::Tensor differentiate_outputs(const variable_list& outputs, const at::Tensor& leaf, const variable_list& grads,
                                 ParameterGradients& gradients) {
  variable_list inputs{leaf};
  inputs.insert(inputs.end(), gradients.parameters().begin(), gradients.parameters().end());
  variable_list results = torch::autograd::grad(outputs, inputs, grads, /*retain_graph=*/false, /*create_graph=*/false,
                                                /*allow_unused=*/true);
  gradients.add({results.begin() + 1, results.end()});
  return std::move(results[0]);
}

}  // namespace longfold::techniques
