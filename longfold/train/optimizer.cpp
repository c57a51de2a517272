#include "longfold/train/optimizer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "longfold/base/error.h"
#include "longfold/base/fields.h"
#include "longfold/kernels/cuda/training.h"
#include "longfold/kernels/dtype.h"
#include "longfold/model/gpu_stream.h"

namespace longfold::train {

void OptimizerConfig::validate() const {
  const auto text = [](auto value) {
    return std::isfinite(static_cast<double>(value)) ? nlohmann::json(value).dump() : std::to_string(value);
  };
  const auto expect = [&](bool condition, const char* name, const std::string& expected, auto value) {
    if (condition) return;
    throw base::UserError(std::string("expected optimizer.") + name + " to be " + expected + ", got " + text(value));
  };
  expect(learning_rate > 0, "learning_rate", "above 0", learning_rate);
  expect(final_learning_rate >= 0 && final_learning_rate <= learning_rate, "final_learning_rate",
         "between 0 and learning_rate, which is " + text(learning_rate), final_learning_rate);
  expect(warmup_steps >= 0, "warmup_steps", "0 or more", warmup_steps);
  expect(warmup_tokens >= 0, "warmup_tokens", "0 or more", warmup_tokens);
  expect(decay_steps >= 0, "decay_steps", "0 or more", decay_steps);
  expect(decay_tokens >= 0, "decay_tokens", "0 or more", decay_tokens);
  expect(beta1 >= 0 && beta1 < 1, "beta1", "at least 0 and below 1", beta1);
  expect(beta2 >= 0 && beta2 < 1, "beta2", "at least 0 and below 1", beta2);
  expect(epsilon > 0, "epsilon", "above 0", epsilon);
  expect(weight_decay >= 0, "weight_decay", "0 or more", weight_decay);
  expect(clip_norm >= 0, "clip_norm", "0 or more", clip_norm);
}

namespace {

// Calls f(const T*) with the type of a tensor's elements.
template <class F>
void with_elements(const at::Tensor& x, F&& f) {
  const void* data = x.const_data_ptr();
  if (x.scalar_type() == at::kBFloat16) {
    f(static_cast<const kernels::bfloat16*>(data));
  } else if (x.scalar_type() == at::kHalf) {
    f(static_cast<const kernels::float16*>(data));
  } else {
    f(x.const_data_ptr<float>());
  }
}

void check_for_kernels(const char* what, const at::Tensor& x) {
  TORCH_CHECK(x.is_contiguous() && reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0, "[", what,
              "] expected contiguous tensors at multiples of 16 bytes, got strides ", x.strides());
}

double sum_of_squares_on_gpu(const std::vector<at::Tensor>& gradients) {
  const auto options = gradients.front().options().dtype(at::kDouble);
  const at::Tensor sums = at::empty({std::ssize(gradients), kernels::cuda::kPartialSums}, options);
  for (size_t i = 0; i < gradients.size(); ++i) {
    const at::Tensor& gradient = gradients[i];
    check_for_kernels("gradient_norm", gradient);
    double* of_gradient = sums.mutable_data_ptr<double>() + static_cast<int64_t>(i) * kernels::cuda::kPartialSums;
    with_elements(gradient, [&](const auto* data) {
      kernels::cuda::sum_of_squares(data, gradient.numel(), of_gradient, model::current_stream(gradient.device()));
    });
  }
  return sums.sum().item<double>();
}

}  // namespace

double gradient_norm(const NamedTensors& parameters) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  gradients.reserve(parameters.size());
  for (const auto& [name, parameter] : parameters) {
    TORCH_CHECK(parameter.grad().defined(), "[gradient_norm] expected a gradient for ", name, ", got none");
    gradients.push_back(parameter.grad());
  }
  if (gradients.front().is_cuda() && kernels::cuda::has_training_kernels()) {
    return std::sqrt(sum_of_squares_on_gpu(gradients));
  }
  double square = 0;
  const at::Tensor norms = at::stack(at::_foreach_norm(gradients, 2, at::kDouble)).cpu();  // one copy from a GPU
  for (int64_t i = 0; i < norms.numel(); ++i) square += std::pow(norms.const_data_ptr<double>()[i], 2);
  return std::sqrt(square);
}

double clip_factor(double norm, double clip_norm) {
  return clip_norm > 0 && norm > clip_norm ? clip_norm / norm : 1;
}

struct AdamW::Rates {
  int64_t step;
  double learning_rate, gradient_factor;
};

AdamW::AdamW(const OptimizerConfig& config, NamedTensors parameters, const std::vector<at::Tensor>& rounded)
    : config_(config), parameters_(std::move(parameters)) {
  TORCH_CHECK(rounded.empty() || rounded.size() == parameters_.size(), "[adamw] expected ", parameters_.size(),
              " rounded parameters or none, got ", rounded.size());
  const at::NoGradGuard no_grad;
  matrices_.weight_decay = config.weight_decay;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const auto& [name, parameter] = parameters_[i];
    Group& group = parameter.dim() >= 2 ? matrices_ : others_;
    group.parameters.push_back(parameter);
    group.rounded.push_back(rounded.empty() ? at::Tensor() : rounded[i]);
    group.means.push_back(at::zeros_like(parameter));
    group.mean_squares.push_back(at::zeros_like(parameter));
    state_.push_back({name + ".mean", group.means.back()});
    state_.push_back({name + ".mean_square", group.mean_squares.back()});
  }
}

void AdamW::update(int64_t step, double learning_rate, double gradient_factor) {
  const at::NoGradGuard no_grad;
  for (const Group* group : {&matrices_, &others_}) {
    if (group->parameters.empty()) continue;
    const bool by_kernels = group->parameters.front().is_cuda() && kernels::cuda::has_training_kernels();
    const Rates rates{step, learning_rate, gradient_factor};
    by_kernels ? update_on_gpu(*group, rates) : update_by_torch(*group, rates);
  }
  skip();
}

void AdamW::update_on_gpu(const Group& group, const Rates& rates) const {
  const auto step = static_cast<double>(rates.step);
  const auto update = [&]<class T>(size_t i, const T* gradient) {
    const at::Tensor &parameter = group.parameters[i], &rounded = group.rounded[i];
    kernels::cuda::adamw<T>(
        {.count = parameter.numel(),
         .parameter = parameter.mutable_data_ptr<float>(),
         .mean = group.means[i].mutable_data_ptr<float>(),
         .mean_square = group.mean_squares[i].mutable_data_ptr<float>(),
         .gradient = gradient,
         .rounded = rounded.defined() ? rounded.mutable_data_ptr() : nullptr,
         .rounded_type = rounded.defined() && rounded.scalar_type() == at::kHalf ? kernels::DType::kFloat16
                                                                                 : kernels::DType::kBFloat16,
         .gradient_factor = static_cast<float>(rates.gradient_factor),
         .learning_rate = static_cast<float>(rates.learning_rate),
         .beta1 = static_cast<float>(config_.beta1),
         .beta2 = static_cast<float>(config_.beta2),
         .epsilon = static_cast<float>(config_.epsilon),
         .weight_decay = static_cast<float>(group.weight_decay),
         .of_new = static_cast<float>(1 - config_.beta1),
         .of_new_square = static_cast<float>(1 - config_.beta2),
         .correction1 = static_cast<float>(1 - std::pow(config_.beta1, step)),
         .correction2 = static_cast<float>(1 - std::pow(config_.beta2, step))},
        model::current_stream(parameter.device()));
  };
  for (size_t i = 0; i < group.parameters.size(); ++i) {
    const at::Tensor& parameter = group.parameters[i];
    const at::Tensor gradient = parameter.grad();
    check_for_kernels("adamw", parameter);
    check_for_kernels("adamw", gradient);
    with_elements(gradient, [&](const auto* data) { update(i, data); });
  }
}

void AdamW::update_by_torch(const Group& group, const Rates& rates) const {
  std::vector<at::Tensor> gradients, steps;
  for (const at::Tensor& parameter : group.parameters) {
    gradients.push_back(parameter.grad());
    steps.push_back(at::scalar_tensor(rates.step, parameter.options().requires_grad(false)));
  }
  if (rates.gradient_factor != 1) at::_foreach_mul_(gradients, rates.gradient_factor);
  at::_fused_adamw_(group.parameters, gradients, group.means, group.mean_squares, {}, steps, rates.learning_rate,
                    config_.beta1, config_.beta2, group.weight_decay, config_.epsilon, /*amsgrad=*/false,
                    /*maximize=*/false);
  for (size_t i = 0; i < group.parameters.size(); ++i) {
    if (group.rounded[i].defined()) at::Tensor(group.rounded[i]).copy_(group.parameters[i]);
  }
}

void AdamW::skip() {
  for (const auto& [name, parameter] : parameters_) parameter.mutable_grad().reset();
}

NamedTensors AdamW::state() const {
  return state_;
}

}  // namespace longfold::train
