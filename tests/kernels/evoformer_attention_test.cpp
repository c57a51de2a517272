#include "longfold/kernels/evoformer_attention.h"

#include <gtest/gtest.h>

#include "longfold/kernels/isa.h"
#include "tests/kernels/attention_problem.h"

namespace longfold::kernels {
namespace {

// What a result is rounded to, times the size of the terms that are added up to make it: near-zero results of large
// terms (the gradient through a single key, say) cannot be better than that.
template <class T>
double floor_of(const std::string& name, const Problem& p, const Solution& exact) {
  const double epsilon = std::is_same_v<T, bfloat16> ? 0x1p-9 : std::is_same_v<T, float16> ? 0x1p-12 : 0x1p-22;
  const double grad_weights = largest(p.grad_out) * largest(p.v) * std::sqrt(static_cast<double>(p.shape.D));
  if (name == "out") return epsilon * largest(p.v);
  if (name == "log_sum_exp") return 0x1p-22 * largest(exact.lse);
  if (name == "grad_v") return epsilon * largest(exact.grad_v);
  if (name == "grad_q") return epsilon * grad_weights * p.scale * largest(p.k);
  if (name == "grad_k") return epsilon * grad_weights * p.scale * largest(p.q);
  return epsilon * grad_weights;
}

// The rule of docs/numerics.md: at most twice the error that plain loops make in the same dtype, plus that floor; both
// errors against fp64. Returns what breaks it.
template <class T>
std::string broken_rule(const Problem& problem, const Solution& got, const Solution& plain, const Solution& exact) {
  const auto fast = got.all(), slow = plain.all(), truth = exact.all();
  for (size_t i = 0; i < fast.size(); ++i) {
    const auto& [name, numbers] = fast[i];
    const double allowed = 2 * error(*slow[i].second, *truth[i].second) + floor_of<T>(name, problem, exact);
    const double made = error(*numbers, *truth[i].second);
    if (!(made <= allowed)) return name + ": error " + std::to_string(made) + ", allowed " + std::to_string(allowed);
  }
  return "";
}

template <class T>
std::string check(const Problem& problem) {
  return broken_rule<T>(problem, solve<T>(problem, With::kKernels), solve<T>(problem, With::kReference),
                        solve<double>(problem, With::kReference));
}

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
void check_logit_gradients(cases::EvoformerCase shape) {
  for (const bool others : {true, false}) {
    shape.mask = shape.mask && others;
    shape.pair = shape.pair && others;
    Problem problem = make_problem<T>(shape);
    problem.wants_logits = true;
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
  for (double& bias : shifted.pair) bias -= 1e4;
  EXPECT_EQ(check<float>(shifted), "") << "all logits near -1e4";
}

// Nearly one-hot weights: gradients are small differences, and must not inherit the rounding of a 16-bit output.
TEST_P(EvoformerAttention, LargeBiasesIn16Bits) {
  for (const double bias_std : {20.0, 50.0}) {
    EXPECT_EQ(check<bfloat16>(make_problem<bfloat16>(GetParam(), bias_std)), "") << bias_std;
    EXPECT_EQ(check<float16>(make_problem<float16>(GetParam(), bias_std)), "") << bias_std;
  }
}

TEST_P(EvoformerAttention, SameBitsForAnyThreads) {
  const Problem problem = make_problem<float>(GetParam());
  const Solution one = solve<float>(problem, With::kKernels, 1);
  for (const int num_threads : {2, 3}) {
    const Solution many = solve<float>(problem, With::kKernels, num_threads);
    for (size_t i = 0; i < one.all().size(); ++i) {
      EXPECT_EQ(*one.all()[i].second, *many.all()[i].second) << one.all()[i].first;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, EvoformerAttention, testing::ValuesIn(cases::evoformer_cases()),
                         [](const auto& tested) { return std::string(tested.param.name); });

const cases::EvoformerCase kSmall{.name = "small", .B = 1, .N = 3, .Lq = 70, .Lk = 139, .H = 2, .D = 32};

// A long row passes through several blocks of keys; a peak in the last one makes every earlier sum shrink.
TEST(EvoformerAttention, MaximumInTheLastBlock) {
  Problem problem = make_problem<float>({.name = "long", .B = 1, .N = 1, .Lq = 5, .Lk = 1000, .H = 1, .D = 32});
  problem.mask[999] = 30;
  EXPECT_EQ(check<float>(problem), "");
}

TEST(EvoformerAttention, LongRowsIn16Bits) {
  const cases::EvoformerCase shape{.name = "long", .B = 1, .N = 2, .Lq = 5, .Lk = 1100, .H = 1, .D = 32};
  EXPECT_EQ(check<bfloat16>(make_problem<bfloat16>(shape, 5.0)), "");
  check_logit_gradients<bfloat16>(shape);
}

TEST(EvoformerAttention, MaskedKeysWeighNothing) {
  Problem problem = make_problem<float>(kSmall);
  for (size_t j = 1; j < problem.mask.size(); j += 2) problem.mask[j] = j % 4 == 1 ? -INFINITY : -1e9;
  EXPECT_EQ(check<float>(problem), "");
  const Solution solution = solve<float>(problem, With::kKernels);
  for (int64_t d = 0; d < kSmall.D; ++d) {
    EXPECT_EQ(solution.grad_v[static_cast<size_t>(1 * kSmall.H * kSmall.D + d)], 0.0) << "key 1 of row 0 is masked";
  }
}

TEST(EvoformerAttention, FullyMaskedRows) {
  for (const double hidden : {-1e9, -double{INFINITY}}) {
    for (const FullyMasked mode : {FullyMasked::kZero, FullyMasked::kMean}) {
      Problem problem = make_problem<float>(kSmall);
      for (size_t j = 0; j < static_cast<size_t>(kSmall.Lk); ++j) problem.mask[j] = hidden;  // row n = 0
      problem.fully_masked = mode;
      EXPECT_EQ(check<float>(problem), "") << hidden << (mode == FullyMasked::kZero ? " zero" : " mean");
      const Solution solution = solve<float>(problem, With::kKernels);
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

// A row's result does not depend on how many rows there are.
TEST(EvoformerAttention, RowsAreIndependent) {
  Problem all = make_problem<float>(kSmall);
  Problem first = all;
  first.shape.N = 1;
  for (Numbers* numbers : {&first.q, &first.k, &first.v, &first.mask, &first.grad_out, &first.grad_lse}) {
    numbers->resize(numbers->size() / static_cast<size_t>(all.shape.N));
  }
  const Solution of_all = solve<float>(all, With::kKernels), of_first = solve<float>(first, With::kKernels);
  const auto begins_with = [](const Numbers& whole, const Numbers& part) {
    return std::equal(part.begin(), part.end(), whole.begin());
  };
  EXPECT_TRUE(begins_with(of_all.out, of_first.out));
  EXPECT_TRUE(begins_with(of_all.lse, of_first.lse));
  EXPECT_TRUE(begins_with(of_all.grad_q, of_first.grad_q));
  EXPECT_TRUE(begins_with(of_all.grad_k, of_first.grad_k));
  EXPECT_TRUE(begins_with(of_all.grad_v, of_first.grad_v));
}

// The rule must be able to fail: each of these wrong answers has to break it.
TEST(EvoformerAttention, TheRuleRejectsWrongAnswers) {
  Problem problem = make_problem<float>(kSmall);
  problem.wants_logits = true;
  const Solution plain = solve<float>(problem, With::kReference), exact = solve<double>(problem, With::kReference);
  const auto rejected = [&](const Problem& wrong) {
    return !broken_rule<float>(problem, solve<float>(wrong, With::kKernels), plain, exact).empty();
  };
  EXPECT_FALSE(rejected(problem));
  Problem wrong = problem;
  wrong.scale *= 1.01;
  EXPECT_TRUE(rejected(wrong)) << "scale";
  wrong = problem;
  std::fill(wrong.pair.begin(), wrong.pair.end(), 0);
  EXPECT_TRUE(rejected(wrong)) << "dropped pair bias";
  wrong = problem;
  std::fill(wrong.mask.begin(), wrong.mask.end(), 0);
  EXPECT_TRUE(rejected(wrong)) << "dropped mask bias";
  wrong = problem;
  const auto half = static_cast<std::ptrdiff_t>(wrong.pair.size() / 2);
  std::rotate(wrong.pair.begin(), wrong.pair.begin() + half, wrong.pair.end());
  EXPECT_TRUE(rejected(wrong)) << "swapped heads";
  wrong = problem;
  for (size_t j = 128; j < 139; ++j) wrong.mask[j] = -INFINITY;
  EXPECT_TRUE(rejected(wrong)) << "missing key block";
  for (const auto& [name, values] : plain.all()) {
    Solution zeroed = plain;
    for (auto* numbers : {&zeroed.out, &zeroed.lse, &zeroed.grad_q, &zeroed.grad_k, &zeroed.grad_v, &zeroed.grad_pair,
                          &zeroed.grad_mask, &zeroed.grad_logits}) {
      if (*numbers == *values) std::fill(numbers->begin(), numbers->end(), 0);
    }
    EXPECT_NE(broken_rule<float>(problem, zeroed, plain, exact), "") << "zeroed " << name;
  }
}

TEST(Isa, TheForcedOneRuns) {
  const char* forced = std::getenv("LONGFOLD_ISA");
  if (forced == nullptr) GTEST_SKIP() << "run through ctest with LONGFOLD_ISA set";
  EXPECT_EQ(isa_name(selected_isa()), forced);
}

}  // namespace
}  // namespace longfold::kernels
