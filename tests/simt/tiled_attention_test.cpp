// The shared case list through the tiled kernels, by the accuracy rule; the same bits in every mode.
#include <gtest/gtest.h>

#include "longfold/kernels/cuda/evoformer_attention.h"
#include "tests/kernels/hidden_keys.h"
#include "tests/kernels/wrong_answers.h"
#include "tests/simt/every_mode.h"
#include "tests/simt/tiled_solution.h"

namespace longfold::kernels::cuda::tiled {
namespace {

using cases::BiasKind;

const HostLaunch kOther{.mode = {simt::Order::kDescending, simt::Delivery::kLatest}, .most_blocks = 2};

template <class T>
std::string check_by_tiles(const kernels::Problem& problem) {
  return broken_rule<T>(problem, solve_by_tiles<T>(problem).value(), solve_with_reference<T>(problem),
                        solve_with_reference<double>(problem));
}

class TiledAttention : public testing::TestWithParam<cases::EvoformerCase> {};

template <class T>
void expect_correct(const cases::EvoformerCase& shape) {
  kernels::Problem problem = make_problem<T>(shape);
  problem.wants_grad_logits = true;
  const std::optional<Solution> solution = solve_by_tiles<T>(problem);
  if (!solution) GTEST_SKIP() << "other kernels' business, or not built";
  EXPECT_EQ(broken_rule<T>(problem, *solution, solve_with_reference<T>(problem), solve_with_reference<double>(problem)),
            "");
  EXPECT_EQ(differences(solve_by_tiles<T>(problem, kOther).value(), *solution), "") << "in another order";
}

TEST_P(TiledAttention, Float32) {
  expect_correct<float>(GetParam());
}
TEST_P(TiledAttention, BFloat16) {
  expect_correct<bfloat16>(GetParam());
}
TEST_P(TiledAttention, Float16) {
  expect_correct<float16>(GetParam());
}

INSTANTIATE_TEST_SUITE_P(Shapes, TiledAttention, testing::ValuesIn(cases::evoformer_cases()),
                         [](const auto& tested) { return std::string(tested.param.name); });

TEST(TiledAttention, SameBitsInEveryMode) {
  for (const int64_t head_dim : {int64_t{32}, int64_t{128}}) {
    const cases::EvoformerCase shape{.name = "modes", .B = 1, .N = 1, .Lq = 35, .Lk = 66, .H = 1, .D = head_dim};
    const kernels::Problem problem = hide(make_problem<float>(shape), 1);
    const std::optional<Solution> first = solve_by_tiles<float>(problem);
    if (!first) continue;  // not built
    for (const simt::Mode& mode : simt::every_mode()) {
      EXPECT_EQ(differences(solve_by_tiles<float>(problem, {.mode = mode, .most_blocks = 4}).value(), *first), "");
    }
  }
}

// A row alone has the bits that it has among others.
TEST(TiledAttention, BitsOfARowDoNotDependOnN) {
  const cases::EvoformerCase shape{.name = "rows", .B = 1, .N = 3, .Lq = 70, .Lk = 139, .H = 2, .D = 32};
  const kernels::Problem problem = make_problem<float>(shape);
  const Solution all = solve_by_tiles<float>(problem).value();
  for (int64_t n = 0; n < shape.N; ++n) {
    const Solution row = solve_by_tiles<float>(rows_of(problem, n, n + 1)).value();
    const auto expect_part = [&](const Numbers& whole, const Numbers& part, const char* name) {
      const auto first = whole.begin() + n * static_cast<std::ptrdiff_t>(part.size());
      EXPECT_TRUE(same_bits(Numbers(first, first + static_cast<std::ptrdiff_t>(part.size())), part)) << name;
    };
    expect_part(all.out, row.out, "out");
    expect_part(all.grad_q, row.grad_q, "grad_q");
    expect_part(all.grad_k, row.grad_k, "grad_k");
    expect_part(all.grad_v, row.grad_v, "grad_v");
    expect_part(all.grad_mask, row.grad_mask, "grad_mask");
  }
}

TEST(TiledAttention, LogitGradientsAreAddedToWhatIsThere) {
  kernels::Problem problem =
      make_problem<float>({.name = "logits", .B = 2, .N = 2, .Lq = 9, .Lk = 11, .H = 2, .D = 32});
  problem.wants_grad_logits = true;
  Numbers once = solve_by_tiles<float>(problem).value().grad_logits;
  for (double& value : once) value *= 2;
  EXPECT_TRUE(same_bits(solve_by_tiles<float>(problem, {.mode = {}, .logit_passes = 2}).value().grad_logits, once));
}

// The rule forgives what the rounding of log_sum_exp costs where logits are large; lse_correction makes up for it.
TEST(TiledAttention, WeightsAddUpToOne) {
  const cases::EvoformerCase shape{.name = "shifted", .B = 1, .N = 1, .Lq = 1, .Lk = 70, .H = 1, .D = 32};
  kernels::Problem problem = make_problem<float>(shape);
  for (double& bias : problem.biases[0].numbers) bias -= 1e4;
  round_to(problem.biases[0].dtype, problem.biases[0].numbers);
  const Solution solution = solve_by_tiles<float>(problem).value();
  for (size_t d = 0; d < 32; ++d) {
    double sum = 0;
    for (size_t j = 0; j < 70; ++j) sum += solution.grad_v[32 * j + d];
    EXPECT_NEAR(sum, problem.grad_out[d], 0x1p-20 * std::abs(problem.grad_out[d]));
  }
}

TEST(TiledAttention, NaNStaysInItsRow) {
  const cases::EvoformerCase shape{.name = "rows", .B = 1, .N = 2, .Lq = 9, .Lk = 11, .H = 1, .D = 32};
  kernels::Problem problem = make_problem<float>(shape);
  const Solution clean = solve_by_tiles<float>(problem).value();
  for (Numbers* numbers : {&problem.q, &problem.k, &problem.v, &problem.grad_out, &problem.grad_lse}) {
    std::fill(numbers->begin() + static_cast<std::ptrdiff_t>(numbers->size() / 2), numbers->end(), std::nan(""));
  }
  const Solution other = solve_by_tiles<float>(problem).value();
  for (Numbers Solution::* const result : {&Solution::out, &Solution::lse, &Solution::grad_q, &Solution::grad_k,
                                           &Solution::grad_v, &Solution::grad_mask}) {
    const Numbers &left = clean.*result, &right = other.*result;
    const auto half = static_cast<std::ptrdiff_t>(left.size() / 2);
    EXPECT_TRUE(same_bits(Numbers(left.begin(), left.begin() + half), Numbers(right.begin(), right.begin() + half)));
    EXPECT_TRUE(std::all_of(right.begin() + half, right.end(), [](double value) { return std::isnan(value); }));
  }
  EXPECT_TRUE(std::isnan(other.grad_pair[0]));
}

TEST(TiledAttention, LargeBiases) {
  for (const double bias_std : {20.0, 50.0}) {
    EXPECT_EQ(check_by_tiles<float>(make_problem<float>(kSmall, bias_std)), "") << bias_std;
  }
  kernels::Problem shifted = make_problem<float>(kSmall);
  for (double& bias : shifted.biases[0].numbers) bias -= 1e4;
  round_to(shifted.biases[0].dtype, shifted.biases[0].numbers);
  EXPECT_EQ(check_by_tiles<float>(shifted), "") << "all logits near -1e4";
}

// In one row n: all keys of the first tile, and all of the last; no NaN from -inf less -inf.
TEST(TiledAttention, TilesOfMaskedKeys) {
  for (const double hidden : {-1e9, -double{INFINITY}}) {
    kernels::Problem problem = make_problem<float>(kSmall);
    for (size_t j = 0; j < 139; ++j) {
      if (j < 70 || j > 120) problem.bias(BiasKind::kMask)[j] = hidden;
    }
    EXPECT_EQ(check_by_tiles<float>(problem), "") << hidden;
  }
}

template <class T>
void expect_fully_masked_rows(double hidden, FullyMasked mode) {
  kernels::Problem problem = make_problem<T>(kSmall);
  for (size_t j = 0; j < static_cast<size_t>(kSmall.Lk); ++j) problem.bias(BiasKind::kMask)[j] = hidden;
  problem.fully_masked = mode;
  EXPECT_EQ(check_by_tiles<T>(problem), "") << hidden << (mode == FullyMasked::kZero ? " zero" : " mean");
}

TEST(TiledAttention, FullyMaskedRows) {
  for (const double hidden : {-1e9, -double{std::numeric_limits<float>::max()}, -double{INFINITY}}) {
    for (const FullyMasked mode : {FullyMasked::kZero, FullyMasked::kMean}) {
      expect_fully_masked_rows<float>(hidden, mode);
    }
  }
  expect_fully_masked_rows<bfloat16>(-1e9, FullyMasked::kMean);
}

TEST(TiledAttention, HiddenKeysHoldWhatTheyLike) {
  for (const cases::EvoformerCase& shape : hiding_shapes()) {
    if (shape.Lk > 1000) continue;  // they take minutes
    for (const auto& [mode, row] :
         {std::pair(FullyMasked::kZero, int64_t{0}), std::pair(FullyMasked::kMean, int64_t{0})}) {
      kernels::Problem problem = hide(make_problem<float>(shape), row);
      problem.fully_masked = mode;
      const std::optional<Solution> clean = solve_by_tiles<float>(problem);
      if (!clean) continue;
      EXPECT_EQ(broken_rule<float>(problem, *clean, solve_with_reference<float>(problem),
                                   solve_with_reference<double>(problem)),
                "")
          << shape.name;
      for (const double garbage : {std::nan(""), -std::numeric_limits<double>::infinity()}) {
        EXPECT_EQ(differences(*clean, solve_by_tiles<float>(spoil(problem, garbage)).value()), "")
            << shape.name << " " << garbage;
      }
    }
  }
}

// More masks than shared memory has places for.
TEST(TiledAttention, ManyBiases) {
  kernels::Problem problem = make_problem<float>({.name = "many", .B = 1, .N = 2, .Lq = 5, .Lk = 9, .H = 1, .D = 32});
  while (problem.biases.size() < kMostBiases) problem.biases.push_back(problem.biases[0]);
  EXPECT_EQ(check_by_tiles<float>(problem), "");
}

TEST(TiledAttention, TheRuleRejectsWrongAnswers) {
  expect_wrong_answers_to_be_rejected<float>(
      1.001, [](const kernels::Problem& problem) { return solve_by_tiles<float>(problem).value(); });
}

}  // namespace
}  // namespace longfold::kernels::cuda::tiled
