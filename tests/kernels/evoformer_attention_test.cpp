#include "longfold/kernels/evoformer_attention.h"

#include <gtest/gtest.h>

#include "longfold/kernels/isa.h"
#include "tests/kernels/wrong_answers.h"

namespace longfold::kernels {
namespace {

using cases::BiasKind::kMask, cases::BiasKind::kPair;

class EvoformerAttention : public testing::TestWithParam<cases::EvoformerCase> {};

TEST_P(EvoformerAttention, Float32) {
  EXPECT_EQ(check<float>(make_problem<float>(GetParam())), "");
}
TEST_P(EvoformerAttention, BFloat16) {
  EXPECT_EQ(check<bfloat16>(make_problem<bfloat16>(GetParam())), "");
}

TEST_P(EvoformerAttention, Float16) {
  EXPECT_EQ(check<float16>(make_problem<float16>(GetParam())), "");
}

// With and without the sums that share a block of logit gradients.
template <class T>
void check_logit_gradients(const cases::EvoformerCase& shape) {
  for (const bool others : {true, false}) {
    Problem problem = make_problem<T>(shape);
    problem.wants_grad_logits = true;
    problem.wants_grad_pair = problem.wants_grad_mask = others;
    EXPECT_EQ(check<T>(problem), "") << (others ? "with sums" : "alone");
  }
}

TEST_P(EvoformerAttention, LogitGradients) {
  check_logit_gradients<float>(GetParam());
  check_logit_gradients<bfloat16>(GetParam());
  check_logit_gradients<float16>(GetParam());
}

TEST_P(EvoformerAttention, LargeBiases) {
  for (const double bias_std : {20.0, 50.0}) {
    EXPECT_EQ(check<float>(make_problem<float>(GetParam(), bias_std)), "") << bias_std;
  }
  Problem shifted = make_problem<float>(GetParam());
  if (shifted.biases.empty()) return;
  for (double& bias : shifted.biases[0].numbers) bias -= 1e4;
  round_to(shifted.biases[0].dtype, shifted.biases[0].numbers);
  EXPECT_EQ(check<float>(shifted), "") << "all logits near -1e4";
}

// Nearly one-hot weights: gradients are small differences, and must not inherit the rounding of a 16-bit output.
TEST_P(EvoformerAttention, LargeBiasesIn16Bits) {
  for (const double bias_std : {20.0, 50.0}) {
    EXPECT_EQ(check<bfloat16>(make_problem<bfloat16>(GetParam(), bias_std)), "") << bias_std;
    EXPECT_EQ(check<float16>(make_problem<float16>(GetParam(), bias_std)), "") << bias_std;
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, EvoformerAttention, testing::ValuesIn(cases::evoformer_cases()),
                         [](const auto& tested) { return std::string(tested.param.name); });

TEST(EvoformerAttention, MaskedKeysWeighNothing) {
  Problem problem = make_problem<float>(kSmall);
  for (size_t j = 1; j < problem.bias(kMask).size(); j += 2) problem.bias(kMask)[j] = j % 4 == 1 ? -INFINITY : -1e9;
  EXPECT_EQ(check<float>(problem), "");
  const Solution solution = solve_with_kernels<float>(problem);
  for (int64_t d = 0; d < kSmall.D; ++d) {
    EXPECT_EQ(solution.grad_v[static_cast<size_t>(1 * kSmall.H * kSmall.D + d)], 0.0) << "key 1 of row 0 is masked";
  }
}

TEST(EvoformerAttention, FullyMaskedRows) {
  for (const double hidden : {-1e9, -double{std::numeric_limits<float>::max()}, -double{INFINITY}}) {
    for (const FullyMasked mode : {FullyMasked::kZero, FullyMasked::kMean}) {
      Problem problem = make_problem<float>(kSmall);
      for (size_t j = 0; j < static_cast<size_t>(kSmall.Lk); ++j) problem.bias(kMask)[j] = hidden;  // row n = 0
      problem.fully_masked = mode;
      EXPECT_EQ(check<float>(problem), "") << hidden << (mode == FullyMasked::kZero ? " zero" : " mean");
      const Solution solution = solve_with_kernels<float>(problem);
      double mean = 0;
      for (int64_t j = 0; j < kSmall.Lk; ++j) mean += problem.v[static_cast<size_t>(j * kSmall.H * kSmall.D)];
      mean /= static_cast<double>(kSmall.Lk);
      EXPECT_NEAR(solution.out[0], mode == FullyMasked::kZero ? 0.0 : mean, mode == FullyMasked::kZero ? 0.0 : 1e-6);
      if (mode == FullyMasked::kZero) {
        const auto row = static_cast<std::ptrdiff_t>(kSmall.Lq * kSmall.H * kSmall.D);
        EXPECT_EQ(largest(Numbers(solution.out.begin(), solution.out.begin() + row)), 0.0);
        EXPECT_EQ(largest(Numbers(solution.grad_q.begin(), solution.grad_q.begin() + row)), 0.0);
      }
    }
  }
}

TEST(EvoformerAttention, TheRuleRejectsWrongAnswers) {
  expect_wrong_answers_to_be_rejected<float>(1.001, [](const Problem& p) { return solve_with_kernels<float>(p); });
  expect_wrong_answers_to_be_rejected<bfloat16>(1.02, [](const Problem& p) {
    return solve_with_kernels<bfloat16>(p);
  });  // 1.01 is noticed as well, 1.007 is lost in the rounding of out
  expect_wrong_answers_to_be_rejected<float16>(1.005, [](const Problem& p) {
    return solve_with_kernels<float16>(p);
  });  // 1.003 is noticed as well, 1.001 is not
}

TEST(Isa, TheForcedOneRuns) {
  const char* forced = std::getenv("LONGFOLD_ISA");
  if (forced == nullptr) GTEST_SKIP() << "run through ctest with LONGFOLD_ISA set";
  EXPECT_EQ(isa_name(selected_isa()), forced);
}

}  // namespace
}  // namespace longfold::kernels
