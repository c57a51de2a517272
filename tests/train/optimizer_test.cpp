#include "longfold/train/optimizer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "longfold/base/error.h"
#include "longfold/kernels/cuda/training.h"

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

TEST(GradientNorm, IsOfAllGradients) {
  const NamedTensors parameters = example(1);
  double square = 0;
  for (const auto& [name, parameter] : parameters)
    square += parameter.grad().to(at::kDouble).square().sum().item<double>();
  EXPECT_NEAR(gradient_norm(parameters), std::sqrt(square), 1e-12);
}

TEST(GradientNorm, NeedsEveryGradient) {
  NamedTensors parameters = example(1);
  parameters[1].tensor.mutable_grad().reset();
  EXPECT_THROW((void)gradient_norm(parameters), c10::Error);
}

TEST(ClipFactor, ShortensWhatIsTooLong) {
  EXPECT_EQ(clip_factor(0.5, 1), 1);
  EXPECT_EQ(clip_factor(4, 1), 0.25);
  EXPECT_EQ(clip_factor(4, 0), 1) << "0 never clips";
  EXPECT_EQ(clip_factor(std::nan(""), 1), 1) << "whoever looks at the norm finds it";
}

TEST(AdamW, MultipliesTheGradients) {
  const NamedTensors ours = example(1), theirs = example(1);
  AdamW factor({}, ours), scaled({}, theirs);
  for (const auto& [name, parameter] : theirs) parameter.mutable_grad().mul_(0.25);
  factor.update(1, 1e-3, 0.25);
  scaled.update(1, 1e-3);
  for (size_t i = 0; i < ours.size(); ++i) EXPECT_TRUE(at::equal(ours[i].tensor, theirs[i].tensor));
  for (size_t i = 0; i < ours.size(); ++i) EXPECT_TRUE(at::equal(factor.state()[i].tensor, scaled.state()[i].tensor));
}

// Of sizes that are no multiple of what a thread moves at a time, from gradients of each type.
TEST(AdamW, OnAGpuIsThatOfTheCpu) {
  if (!at::hasCUDA()) GTEST_SKIP() << "no GPU";
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    if (dtype != at::kFloat && !kernels::cuda::has_training_kernels()) continue;
    at::manual_seed(3);
    NamedTensors here, there;
    for (const int64_t size : {1, 7, 1022}) {
      const at::Tensor value = at::randn({size, 3}), grad = at::randn({size, 3}).to(dtype);
      here.push_back({std::to_string(size), value.clone()});
      there.push_back({std::to_string(size), value.cuda()});
      here.back().tensor.mutable_grad() = grad.to(at::kFloat);
      there.back().tensor.mutable_grad() = grad.cuda();
    }
    EXPECT_NEAR(gradient_norm(there) / gradient_norm(here), 1, 1e-12);
    std::vector<at::Tensor> rounded;
    for (const auto& [name, value] : there) rounded.push_back(at::zeros_like(value, dtype));
    AdamW on_cpu({.weight_decay = 0.3}, here);
    AdamW on_gpu({.weight_decay = 0.3}, there, dtype == at::kFloat ? std::vector<at::Tensor>() : rounded);
    on_cpu.update(5, 1e-2, 0.7);
    on_gpu.update(5, 1e-2, 0.7);
    const auto compare = [](const NamedTensors& x, const NamedTensors& y) {
      for (size_t i = 0; i < x.size(); ++i) {
        EXPECT_LT((x[i].tensor - y[i].tensor.cpu()).abs().max().item<double>(), 1e-6) << x[i].name;
      }
    };
    compare(here, there);
    for (size_t i = 0; i < rounded.size() && dtype != at::kFloat; ++i) {
      EXPECT_TRUE(at::equal(rounded[i], there[i].tensor.to(dtype))) << dtype;
    }
    compare(on_cpu.state(), on_gpu.state());
  }
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
