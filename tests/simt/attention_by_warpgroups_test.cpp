// The shared case list through the kernels whose products are of warpgroups, as in evoformer_attention_test.cpp.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "tests/simt/attention_checks.h"

namespace longfold::kernels::cuda::mma {
namespace {

const HostLaunch kLaunch{.mode = {}, .by_warpgroups = true};
const HostLaunch kOther{.mode = {simt::Order::kDescending, simt::Delivery::kLatest},
                        .most_blocks = 2,
                        .by_warpgroups = true,
                        .has_few_queries = true};

const cases::EvoformerCase kUnits{.name = "units", .B = 1, .N = 4, .Lq = 70, .Lk = 136, .H = 2, .D = 32};

class AttentionByWarpgroups : public testing::TestWithParam<cases::EvoformerCase> {};

TEST_P(AttentionByWarpgroups, BFloat16) {
  expect_correct<bfloat16>(GetParam(), kLaunch, kOther);
}
TEST_P(AttentionByWarpgroups, Float16) {
  expect_correct<float16>(GetParam(), kLaunch, kOther);
}

INSTANTIATE_TEST_SUITE_P(Shapes, AttentionByWarpgroups, testing::ValuesIn(cases::evoformer_cases_in_units()),
                         [](const auto& tested) { return std::string(tested.param.name); });

// Pair biases that do not lie in whole units: the kernels get a copy.
std::vector<cases::EvoformerCase> cases_beside_units() {
  std::vector<cases::EvoformerCase> shapes = cases::evoformer_cases();
  std::erase_if(shapes, [](const cases::EvoformerCase& shape) {
    const bool has_pair = std::ranges::any_of(shape.biases, [](const cases::Bias& bias) {
      return bias.kind == cases::BiasKind::kPair || bias.kind == cases::BiasKind::kSharedPair;
    });
    return !has_pair || (shape.Lk % 8 == 0 && shape.layout == cases::Layout::kContiguous);
  });
  return shapes;
}

class AttentionBesideUnits : public testing::TestWithParam<cases::EvoformerCase> {};

TEST_P(AttentionBesideUnits, BFloat16) {
  expect_correct<bfloat16>(GetParam(), kLaunch, kOther);
}

INSTANTIATE_TEST_SUITE_P(Shapes, AttentionBesideUnits, testing::ValuesIn(cases_beside_units()),
                         [](const auto& tested) { return std::string(tested.param.name); });

// Of a head dim.
class AttentionByWarpgroupsOf : public testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override {
    if (!solve_on_host<bfloat16>(make_problem<bfloat16>(few_), kLaunch)) GTEST_SKIP() << "not built";
  }
  [[nodiscard]] static cases::EvoformerCase with_head_dim(cases::EvoformerCase shape) {
    shape.D = GetParam();
    return shape;
  }

  const cases::EvoformerCase units_ = with_head_dim(kUnits);
  const cases::EvoformerCase few_ =
      with_head_dim({.name = "few_keys", .B = 1, .N = 2, .Lq = 20, .Lk = 8, .H = 2, .D = 32});
};

TEST_P(AttentionByWarpgroupsOf, LargeBiases) {
  expect_to_bear_large_biases(units_, kLaunch);
}

TEST_P(AttentionByWarpgroupsOf, MaskedKeysWeighNothing) {
  expect_masked_keys_to_weigh_nothing(units_, kLaunch);
}

TEST_P(AttentionByWarpgroupsOf, HiddenTiles) {
  cases::EvoformerCase shape = units_;
  expect_to_bear_hidden_tiles(shape, kLaunch);
  shape.biases = {{cases::BiasKind::kMask}};
  expect_to_bear_hidden_tiles(shape, kLaunch);
}

TEST_P(AttentionByWarpgroupsOf, QueriesWithoutKeys) {
  expect_to_bear_queries_without_keys(units_, kLaunch);
}

TEST_P(AttentionByWarpgroupsOf, FullyMaskedRows) {
  expect_to_bear_fully_masked_rows(units_, kLaunch);
}

TEST_P(AttentionByWarpgroupsOf, EveryRowFullyMasked) {
  expect_to_bear_that_all_is_masked(few_, kLaunch);
}

INSTANTIATE_TEST_SUITE_P(HeadDims, AttentionByWarpgroupsOf, testing::Values(8, 16, 32, 64, 128),
                         testing::PrintToStringParamName());

TEST(AttentionByWarpgroups, RowsDoNotDependOnN) {
  expect_rows_alone_to_be_the_same<bfloat16>(kUnits, kLaunch);
}

// Of large biases that cancel log_sum_exp each pass keeps what plain loops keep, some roundings beside: the rule's
// floor, one rounding of a logit, would bear a log_sum_exp that products cut.
TEST(AttentionByWarpgroups, LargeLogits) {
  using cases::BiasKind;
  using cases::ElementType;
  cases::EvoformerCase shape = kUnits;
  if (!solve_on_host<float16>(make_problem<float16>(shape), kLaunch)) GTEST_SKIP() << "not built";
  for (const ElementType type : {ElementType::kOfQueries, ElementType::kFloat64}) {
    shape.biases = {{BiasKind::kMask, type}, {BiasKind::kPair, type}};
    expect_to_bear_large_logits<float16>(shape, kLaunch, 3);
  }
}

// Warps whose keys are shown or hidden take the way of those that have other values, if one of their warpgroup does.
TEST(AttentionByWarpgroups, NoMaskGradientIsWanted) {
  kernels::Problem problem = make_problem<bfloat16>(kUnits);
  problem.wants_grad_mask = false;
  Numbers& mask = problem.bias(BiasKind::kMask);
  for (size_t j = 0; j < mask.size(); ++j) mask[j] = j % 5 == 1 ? -1e9 : 0;
  EXPECT_EQ(check_on_host<bfloat16>(problem, kLaunch), "") << "shown and hidden keys";
  for (size_t j = 80; j < 90; ++j) mask[j] = -2.5;
  EXPECT_EQ(check_on_host<bfloat16>(problem, kLaunch), "") << "values in two warps";
}

TEST(AttentionByWarpgroups, TheRuleRejectsWrongAnswers) {
  const kernels::Problem problem = make_problem<bfloat16>(kUnits);
  const Solution plain = solve_with_reference<bfloat16>(problem), exact = solve_with_reference<double>(problem);
  const auto expect_rejected = [&](const char* what, const auto& spoil) {
    kernels::Problem wrong = problem;
    spoil(wrong);
    std::set<std::string> names;
    for (const BrokenResult& result :
         broken_results<bfloat16>(problem, solved<bfloat16>(wrong, kLaunch), plain, exact)) {
      names.insert(result.name);
    }
    EXPECT_TRUE(names.contains("out")) << what;
    EXPECT_TRUE(names.contains("grad_q") || names.contains("grad_k") || names.contains("grad_v")) << what;
  };
  expect_rejected("scale", [](kernels::Problem& wrong) { wrong.scale *= 1.02; });
  expect_rejected("dropped pair bias",
                  [](kernels::Problem& wrong) { std::ranges::fill(wrong.bias(BiasKind::kPair), 0); });
  expect_rejected("dropped mask", [](kernels::Problem& wrong) { std::ranges::fill(wrong.bias(BiasKind::kMask), 0); });
  expect_rejected("missing keys", [](kernels::Problem& wrong) {
    for (size_t j = 128; j < 136; ++j) wrong.bias(BiasKind::kMask)[j] = -double{INFINITY};
  });
}

}  // namespace
}  // namespace longfold::kernels::cuda::mma
