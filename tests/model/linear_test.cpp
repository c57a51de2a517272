#include "longfold/model/linear.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "longfold/base/error.h"

namespace longfold::model {
namespace {

double relative(const at::Tensor& got, const at::Tensor& exact) {
  return (got - exact).abs().max().item<double>() / exact.abs().max().item<double>();
}

TEST(Linear, BothEnginesGiveTheProductAndItsGradients) {
  for (const LinearEngine engine : {LinearEngine::kTorch, LinearEngine::kOnednn}) {
    for (const auto& [in, out] : {std::pair<int64_t, int64_t>{32, 96}, {96, 32}, {7, 5}, {64, 64}}) {
      for (const bool has_bias : {false, true}) {
        const auto tensor = [](at::IntArrayRef sizes) { return at::randn(sizes).requires_grad_(); };
        const at::Tensor x = tensor({2, 37, in}), w = tensor({out, in}), b = has_bias ? tensor({out}) : at::Tensor();
        const auto exact = [](const at::Tensor& t) { return t.detach().to(at::kDouble).requires_grad_(); };
        const at::Tensor exact_x = exact(x), exact_w = exact(w), exact_b = has_bias ? exact(b) : at::Tensor();
        const at::Tensor y = linear(x, w, b, engine), expected = at::linear(exact_x, exact_w, exact_b);
        const at::Tensor cotangent = at::randn({2, 37, out});
        (y * cotangent).sum().backward();
        (expected * cotangent).sum().backward();
        const std::string what = to_string(engine) + " " + std::to_string(in) + " " + std::to_string(out);
        EXPECT_LT(relative(y, expected), 1e-6) << what;
        EXPECT_LT(relative(x.grad(), exact_x.grad()), 1e-6) << what;
        EXPECT_LT(relative(w.grad(), exact_w.grad()), 1e-6) << what;
        if (!has_bias) continue;
        EXPECT_LT(relative(b.grad(), exact_b.grad()), 1e-6) << what;
      }
    }
  }
}

// Of a gradient that was expanded, and of an input that wants none.
TEST(Linear, OnednnTakesAnyStrides) {
  const at::Tensor x = at::randn({16, 3, 20}).transpose(0, 1), w = at::randn({16, 24}).t().requires_grad_();
  const at::Tensor narrow = x.narrow(-1, 2, 16);
  linear(narrow, w, {}, LinearEngine::kOnednn).sum().backward();
  const at::Tensor expected = narrow.flatten(0, 1).sum(0).expand({24, 16});
  EXPECT_LT(relative(w.grad(), expected), 1e-5);
}

TEST(Linear, OtherTypesGoTorchsWay) {
  const at::Tensor x = at::randn({3, 8}, at::kDouble), w = at::randn({4, 8}, at::kDouble);
  EXPECT_TRUE(at::equal(linear(x, w, {}, LinearEngine::kOnednn), at::linear(x, w)));
}

TEST(Linear, EnginesHaveNames) {
  EXPECT_EQ(linear_engine("torch"), LinearEngine::kTorch);
  EXPECT_EQ(linear_engine("onednn"), LinearEngine::kOnednn);
  EXPECT_EQ(linear_engine(to_string(linear_engine("auto"))), linear_engine("auto"));
  EXPECT_THROW((void)linear_engine("mkl"), base::UserError);
}

}  // namespace
}  // namespace longfold::model
