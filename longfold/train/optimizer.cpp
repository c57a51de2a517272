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

}  // namespace

void GradientNorm::add(size_t index, const at::Tensor& gradient) {
  const at::NoGradGuard no_grad;
  at::Tensor& squares = squares_.at(index);
  if (gradient.is_meta()) return;
  if (!gradient.is_cuda() || !kernels::cuda::has_training_kernels()) {
    squares = at::_foreach_norm({gradient}, 2, at::kDouble)[0].square().view({1});
    return;
  }
  check_for_kernels("gradient_norm", gradient);
  squares = at::empty({kernels::cuda::kPartialSums}, gradient.options().dtype(at::kDouble));
  with_elements(gradient, [&](const auto* data) {
    kernels::cuda::sum_of_squares(data, gradient.numel(), squares.mutable_data_ptr<double>(),
                                  model::current_stream(gradient.device()));
  });
}

double GradientNorm::norm() const {
  const at::Tensor all = at::cat(squares_).cpu();  // one copy from a GPU
  double sum = 0;
  for (int64_t i = 0; i < all.numel(); ++i) sum += all.const_data_ptr<double>()[i];
  return std::sqrt(sum);
}

double gradient_norm(const NamedTensors& parameters) {
  GradientNorm norm(parameters.size());
  for (size_t i = 0; i < parameters.size(); ++i) {
    const auto& [name, parameter] = parameters[i];
    TORCH_CHECK(parameter.grad().defined(), "[gradient_norm] expected a gradient for ", name, ", got none");
    norm.add(i, parameter.grad());
  }
  return norm.norm();
}

double clip_factor(double norm, double clip_norm) {
  return clip_norm > 0 && norm > clip_norm ? clip_norm / norm : 1;
}

AdamW::AdamW(const OptimizerConfig& config, NamedTensors parameters, const std::vector<at::Tensor>& rounded,
             std::shared_ptr<techniques::Home> home)
    : config_(config), parameters_(std::move(parameters)), home_(std::move(home)) {
  TORCH_CHECK(rounded.empty() || rounded.size() == parameters_.size(), "[adamw] expected ", parameters_.size(),
              " rounded parameters or none, got ", rounded.size());
  const at::NoGradGuard no_grad;
  if (home_ == nullptr) home_ = techniques::make_home("none", "", parameters_.front().tensor.device());
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const auto& [name, parameter] = parameters_[i];
    items_.push_back({.parameter = parameter,
                      .rounded = rounded.empty() ? at::Tensor() : rounded[i],
                      .mean = home_->make_like(parameter),
                      .mean_square = home_->make_like(parameter),
                      .weight_decay = parameter.dim() >= 2 ? config.weight_decay : 0});
    state_.push_back({name + ".mean", items_.back().mean});
    state_.push_back({name + ".mean_square", items_.back().mean_square});
  }
}

AdamW::Visits AdamW::begin_visits(const Item& item) const {
  return {.parameter = item.rounded.defined() ? home_->bring(item.parameter)
                                              : techniques::Home::Visit{item.parameter, item.parameter, {}},
          .mean = home_->bring(item.mean),
          .mean_square = home_->bring(item.mean_square)};
}

void AdamW::update(int64_t step, double learning_rate, double gradient_factor) {
  const at::NoGradGuard no_grad;
  // The next one is on its way while one is updated.
  Visits next = begin_visits(items_.front());
  for (size_t i = 0; i < items_.size(); ++i) {
    Visits visits = std::move(next);
    if (i + 1 < items_.size()) next = begin_visits(items_[i + 1]);
    update(items_[i], std::move(visits), {step, learning_rate, gradient_factor});
  }
  settle();
}

void AdamW::update_one(size_t index, int64_t step, double learning_rate, double gradient_factor) {
  const at::NoGradGuard no_grad;
  const Item& item = items_.at(index);
  update(item, begin_visits(item), {step, learning_rate, gradient_factor});
}

void AdamW::update(const Item& item, Visits visits, const Rates& rates) const {
  home_->arrive(visits.parameter);
  home_->arrive(visits.mean);
  home_->arrive(visits.mean_square);
  at::Tensor& gradient = item.parameter.mutable_grad();
  // One without data is streamed: rounded anew when it is wanted (techniques/parameter_stream.h).
  const bool has_rounded = item.rounded.defined() && item.rounded.numel() == item.parameter.numel();
  const Item here{visits.parameter.here, has_rounded ? item.rounded : at::Tensor(), visits.mean.here,
                  visits.mean_square.here, item.weight_decay};
  if (here.parameter.is_cuda() && kernels::cuda::has_training_kernels()) {
    update_on_gpu(here, gradient, rates);
  } else if (!here.parameter.is_meta()) {
    update_by_torch(here, gradient, rates);
  }
  gradient.reset();
  if (item.rounded.defined()) home_->send(std::move(visits.parameter));
  home_->send(std::move(visits.mean));
  home_->send(std::move(visits.mean_square));
}

void AdamW::settle() {
  home_->settle();
}

void AdamW::update_on_gpu(const Item& item, const at::Tensor& gradient, const Rates& rates) const {
  const auto step = static_cast<double>(rates.step);
  check_for_kernels("adamw", item.parameter);
  check_for_kernels("adamw", gradient);
  const bool rounds_to_half = item.rounded.defined() && item.rounded.scalar_type() == at::kHalf;
  with_elements(gradient, [&]<class T>(const T* data) {
    kernels::cuda::adamw<T>({.count = item.parameter.numel(),
                             .parameter = item.parameter.mutable_data_ptr<float>(),
                             .mean = item.mean.mutable_data_ptr<float>(),
                             .mean_square = item.mean_square.mutable_data_ptr<float>(),
                             .gradient = data,
                             .rounded = item.rounded.defined() ? item.rounded.mutable_data_ptr() : nullptr,
                             .rounded_type = rounds_to_half ? kernels::DType::kFloat16 : kernels::DType::kBFloat16,
                             .gradient_factor = static_cast<float>(rates.gradient_factor),
                             .learning_rate = static_cast<float>(rates.learning_rate),
                             .beta1 = static_cast<float>(config_.beta1),
                             .beta2 = static_cast<float>(config_.beta2),
                             .epsilon = static_cast<float>(config_.epsilon),
                             .weight_decay = static_cast<float>(item.weight_decay),
                             .of_new = static_cast<float>(1 - config_.beta1),
                             .of_new_square = static_cast<float>(1 - config_.beta2),
                             .correction1 = static_cast<float>(1 - std::pow(config_.beta1, step)),
                             .correction2 = static_cast<float>(1 - std::pow(config_.beta2, step))},
                            model::current_stream(item.parameter.device()));
  });
}

void AdamW::update_by_torch(const Item& item, const at::Tensor& gradient, const Rates& rates) const {
  const at::Tensor step = at::scalar_tensor(rates.step, item.parameter.options().requires_grad(false));
  const at::Tensor scaled = rates.gradient_factor == 1 ? gradient : gradient.mul_(rates.gradient_factor);
  at::_fused_adamw_({item.parameter}, {scaled}, {item.mean}, {item.mean_square}, {}, {step}, rates.learning_rate,
                    config_.beta1, config_.beta2, item.weight_decay, config_.epsilon, /*amsgrad=*/false,
                    /*maximize=*/false);
  if (item.rounded.defined()) at::Tensor(item.rounded).copy_(item.parameter);
}

void AdamW::skip() {
  for (const auto& [name, parameter] : parameters_) parameter.mutable_grad().reset();
}

NamedTensors AdamW::state() const {
  return state_;
}

}  // namespace longfold::train
