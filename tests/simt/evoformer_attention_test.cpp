// The shared case list through the kernels on tensor cores, by the accuracy rule; the same bits in every mode, with and
// without tensor maps.
#include <gtest/gtest.h>

#include "tests/kernels/wrong_answers.h"
#include "tests/simt/attention_checks.h"

namespace longfold::kernels::cuda::mma {
namespace {

const HostLaunch kLaunch{};
const HostLaunch kOther{
    .mode = {simt::Order::kDescending, simt::Delivery::kLatest}, .most_blocks = 2, .has_tensor_maps = true};

class EvoformerAttention : public testing::TestWithParam<cases::EvoformerCase> {};

TEST_P(EvoformerAttention, BFloat16) {
  expect_correct<bfloat16>(GetParam(), kLaunch, kOther);
}
TEST_P(EvoformerAttention, Float16) {
  expect_correct<float16>(GetParam(), kLaunch, kOther);
}

INSTANTIATE_TEST_SUITE_P(Shapes, EvoformerAttention, testing::ValuesIn(cases::evoformer_cases()),
                         [](const auto& tested) { return std::string(tested.param.name); });

struct CaseInEveryMode {
  const char* name;
  bool by_warpgroups;
};

class EveryMode : public testing::TestWithParam<CaseInEveryMode> {};

TEST_P(EveryMode, SameBits) {
  HostLaunch launch;
  launch.by_warpgroups = GetParam().by_warpgroups;
  expect_same_bits_in_every_mode(case_named(GetParam().name), launch);
}

INSTANTIATE_TEST_SUITE_P(Shapes, EveryMode,
                         testing::Values(CaseInEveryMode{"atom", false}, CaseInEveryMode{"chunk_of_projection", false},
                                         CaseInEveryMode{"atom", true}, CaseInEveryMode{"one_panel_one_block", true}),
                         [](const auto& tested) {
                           return std::string(tested.param.name) + (tested.param.by_warpgroups ? "_by_warpgroups" : "");
                         });

TEST(EvoformerAttention, RowsDoNotDependOnN) {
  expect_rows_alone_to_be_the_same<bfloat16>(kSmall, kLaunch);
}

TEST(EvoformerAttention, LargeBiases) {
  expect_to_bear_large_biases(kSmall, kLaunch);
}

TEST(EvoformerAttention, MaskedKeysWeighNothing) {
  expect_masked_keys_to_weigh_nothing(kSmall, kLaunch);
}

TEST(EvoformerAttention, HiddenTiles) {
  for (const int64_t D : {8, 16, 32, 64}) {
    cases::EvoformerCase shape = kSmall;
    shape.D = D;
    if (!solve_on_host<bfloat16>(make_problem<bfloat16>(shape), kLaunch)) continue;  // not built
    expect_to_bear_hidden_tiles(shape, kLaunch);
    shape.biases = {{BiasKind::kMask}};
    expect_to_bear_hidden_tiles(shape, kLaunch);
  }
}

// Outputs are divided by the sum of rounded weights: a weight beside which the others are nothing may be any number,
// and what is left are the roundings of plain loops.
TEST(EvoformerAttention, TheRoundingOfAWeightThatCountsAloneCancels) {
  const cases::EvoformerCase shape{.name = "alone", .B = 1, .N = 2, .Lq = 20, .Lk = 72, .H = 2, .D = 32};
  kernels::Problem problem = make_problem<float16>(shape);
  if (!solve_on_host<float16>(problem, kLaunch)) GTEST_SKIP() << "not built";
  std::ranges::fill(problem.bias(BiasKind::kMask), 0);
  Numbers& pair = problem.bias(BiasKind::kPair);
  for (size_t i = 0; i < pair.size(); ++i) {
    const size_t key = i % 72, query = i / 72;
    // The first key is what a row's logits are taken relative to; key 70 weighs 1,000 times as much, or more.
    pair[i] = key == 0 ? 0 : key == 70 ? 7 + 0.03 * static_cast<double>(query) : -40;
  }
  round_to(DType::kFloat32, pair);
  for (double& number : problem.q) number *= 0.01;
  round_to(DType::kFloat16, problem.q);
  const Numbers exact = solve_with_reference<double>(problem).out;
  const double made = error(solved<float16>(problem, kLaunch).out, exact);
  EXPECT_LE(made, 1.1 * error(solve_with_reference<float16>(problem).out, exact));
}

// Two tiles of queries share a warp: what is not a number in one stays there.
TEST(EvoformerAttention, NoQuerySeesAnother) {
  const cases::EvoformerCase shape{.name = "queries", .B = 1, .N = 2, .Lq = 40, .Lk = 72, .H = 2, .D = 32};
  kernels::Problem problem = make_problem<bfloat16>(shape);
  if (!solve_on_host<bfloat16>(problem, kLaunch)) GTEST_SKIP() << "not built";
  const Numbers clean = solved<bfloat16>(problem, kLaunch).out;
  const size_t query = 2 * 32, row = 40 * query;  // H D numbers; those of the second query of each row n are spoilt
  for (size_t n = 0; n < 2; ++n) std::fill_n(problem.q.begin() + static_cast<int64_t>(n * row + query), query, NAN);
  const Numbers out = solved<bfloat16>(problem, kLaunch).out;
  for (size_t i = 0; i < out.size(); ++i) {
    if (i % row / query == 1)
      EXPECT_TRUE(std::isnan(out[i])) << i;
    else
      EXPECT_EQ(out[i], clean[i]) << i;
  }
}

TEST(EvoformerAttention, FullyMaskedRows) {
  expect_to_bear_fully_masked_rows(kSmall, kLaunch);
}

TEST(EvoformerAttention, QueriesWithoutKeys) {
  expect_to_bear_queries_without_keys(kSmall, kLaunch);
}

TEST(EvoformerAttention, EveryRowFullyMasked) {
  expect_to_bear_that_all_is_masked({.name = "few_keys", .B = 1, .N = 2, .Lq = 20, .Lk = 9, .H = 2, .D = 32}, kLaunch);
}

// Gradients of logits are the plain kernels' business: here plain loops give them.
TEST(EvoformerAttention, TheRuleRejectsWrongAnswers) {
  expect_wrong_answers_to_be_rejected<bfloat16>(1.02, [](const kernels::Problem& problem) {
    Solution solution = solved<bfloat16>(problem, kLaunch);
    solution.grad_logits = solve_with_reference<bfloat16>(problem).grad_logits;
    return solution;
  });
}

}  // namespace
}  // namespace longfold::kernels::cuda::mma
