#include "longfold/train/optimizer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "longfold/base/error.h"
#include "longfold/base/fields.h"

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

double clip_gradients(const NamedTensors& parameters, double clip_norm) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  gradients.reserve(parameters.size());
  for (const auto& [name, parameter] : parameters) {
    TORCH_CHECK(parameter.grad().defined(), "[clip_gradients] expected a gradient for ", name, ", got none");
    gradients.push_back(parameter.grad());
  }
  double square = 0;
  const at::Tensor norms = at::stack(at::_foreach_norm(gradients, 2, at::kDouble)).cpu();  // one copy from a GPU
  for (int64_t i = 0; i < norms.numel(); ++i) square += std::pow(norms.const_data_ptr<double>()[i], 2);
  const double norm = std::sqrt(square);
  if (clip_norm > 0 && norm > clip_norm) at::_foreach_mul_(gradients, clip_norm / norm);
  return norm;
}

AdamW::AdamW(const OptimizerConfig& config, NamedTensors parameters)
    : config_(config), parameters_(std::move(parameters)) {
  const at::NoGradGuard no_grad;
  matrices_.weight_decay = config.weight_decay;
  for (const auto& [name, parameter] : parameters_) {
    Group& group = parameter.dim() >= 2 ? matrices_ : others_;
    group.parameters.push_back(parameter);
    group.means.push_back(at::zeros_like(parameter));
    group.mean_squares.push_back(at::zeros_like(parameter));
    state_.push_back({name + ".mean", group.means.back()});
    state_.push_back({name + ".mean_square", group.mean_squares.back()});
  }
}

void AdamW::update(int64_t step, double learning_rate) {
  const at::NoGradGuard no_grad;
  for (Group* group : {&matrices_, &others_}) {
    if (group->parameters.empty()) continue;
    std::vector<at::Tensor> gradients, steps;
    for (const at::Tensor& parameter : group->parameters) {
      gradients.push_back(parameter.grad());
      steps.push_back(at::scalar_tensor(step, parameter.options().requires_grad(false)));
    }
    at::_fused_adamw_(group->parameters, gradients, group->means, group->mean_squares, {}, steps, learning_rate,
                      config_.beta1, config_.beta2, group->weight_decay, config_.epsilon, /*amsgrad=*/false,
                      /*maximize=*/false);
  }
  skip();
}

void AdamW::skip() {
  for (const auto& [name, parameter] : parameters_) parameter.mutable_grad().reset();
}

NamedTensors AdamW::state() const {
  return state_;
}

}  // namespace longfold::train
