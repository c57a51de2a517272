#include "longfold/train/optimizer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "longfold/base/error.h"

namespace longfold::train {
namespace {

at::Tensor numbers(at::IntArrayRef shape, double phase) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return (at::arange(count, at::kDouble) * 0.7 + phase).sin().view(shape).to(at::kFloat);
}

NamedTensors example(double scale) {
  NamedTensors parameters{{"matrix", numbers({3, 5}, 0.1)}, {"vector", numbers({37}, 0.2)}};
  for (auto& [name, parameter] : parameters) {
    parameter.set_requires_grad(true);
    parameter.mutable_grad() = numbers(parameter.sizes(), 0.3) * scale;
  }
  return parameters;
}

TEST(AdamW, FollowsTheFormulaInFp64) {
  const OptimizerConfig config{.learning_rate = 0.1, .beta1 = 0.8, .beta2 = 0.9, .epsilon = 1e-3, .weight_decay = 0.3};
  NamedTensors parameters = example(1);
  AdamW optimizer(config, parameters);
  std::vector<at::Tensor> expected, mean, mean_square;
  for (const auto& [name, parameter] : parameters) {
    expected.push_back(parameter.detach().to(at::kDouble).clone());
    mean.push_back(at::zeros_like(expected.back()));
    mean_square.push_back(at::zeros_like(expected.back()));
  }
  for (int64_t step = 1; step <= 5; ++step) {
    const double rate = 0.1 / static_cast<double>(step);
    for (size_t i = 0; i < parameters.size(); ++i) {
      at::Tensor& parameter = parameters[i].tensor;
      parameter.mutable_grad() = numbers(parameter.sizes(), static_cast<double>(step));
      const at::Tensor gradient = parameter.grad().to(at::kDouble);
      mean[i] = 0.8 * mean[i] + 0.2 * gradient;
      mean_square[i] = 0.9 * mean_square[i] + 0.1 * gradient * gradient;
      const at::Tensor unbiased = mean[i] / (1 - std::pow(0.8, step));
      const at::Tensor root = (mean_square[i] / (1 - std::pow(0.9, step))).sqrt();
      const double decay = i == 0 ? 0.3 : 0.0;  // the vector does not decay
      expected[i] = expected[i] * (1 - rate * decay) - rate * unbiased / (root + 1e-3);
    }
    optimizer.update(step, rate);
  }
  for (size_t i = 0; i < parameters.size(); ++i) {
    const double error = (parameters[i].tensor.detach().to(at::kDouble) - expected[i]).abs().max().item<double>();
    EXPECT_LT(error, 5e-7) << parameters[i].name;  // a few roundings of values below 1.2
    EXPECT_FALSE(parameters[i].tensor.grad().defined()) << "gradients are freed";
  }
  const NamedTensors state = optimizer.state();
  ASSERT_EQ(state.size(), 4);
  EXPECT_EQ(state[3].name, "vector.mean_square");
  EXPECT_LT((state[3].tensor - mean_square[1]).abs().max().item<double>(), 1e-7);
}

TEST(ClipGradients, LeavesShortOnesAlone) {
  const NamedTensors parameters = example(1);
  const at::Tensor before = parameters[1].tensor.grad().clone();
  const double norm = clip_gradients(parameters, 1000);
  double square = 0;
  for (const auto& [name, parameter] : parameters)
    square += parameter.grad().to(at::kDouble).square().sum().item<double>();
  EXPECT_NEAR(norm, std::sqrt(square), 1e-12);
  EXPECT_TRUE(at::equal(before, parameters[1].tensor.grad()));
  EXPECT_EQ(clip_gradients(parameters, 0), norm) << "0 never clips";
  EXPECT_TRUE(at::equal(before, parameters[1].tensor.grad()));
}

TEST(ClipGradients, ScalesLongOnesToTheNorm) {
  const NamedTensors parameters = example(100);
  const at::Tensor before = parameters[0].tensor.grad().clone();
  const double norm = clip_gradients(parameters, 0.5);
  EXPECT_GT(norm, 100);
  EXPECT_NEAR(clip_gradients(parameters, 0), 0.5, 1e-6);
  EXPECT_LT((parameters[0].tensor.grad() - before * (0.5 / norm)).abs().max().item<double>(), 1e-7);
}

TEST(ClipGradients, NeedsEveryGradient) {
  NamedTensors parameters = example(1);
  parameters[1].tensor.mutable_grad().reset();
  EXPECT_THROW(clip_gradients(parameters, 1), c10::Error);
}

TEST(OptimizerConfig, NamesTheFieldThatIsWrong) {
  OptimizerConfig config;
  config.beta2 = 1;
  try {
    config.validate();
    FAIL();
  } catch (const base::UserError& error) {
    EXPECT_STREQ(error.what(), "expected optimizer.beta2 to be at least 0 and below 1, got 1.0");
  }
  try {
    OptimizerConfig{.epsilon = NAN}.validate();
    FAIL();
  } catch (const base::UserError& error) {
    EXPECT_STREQ(error.what(), "expected optimizer.epsilon to be above 0, got nan");
  }
}

}  // namespace
}  // namespace longfold::train
