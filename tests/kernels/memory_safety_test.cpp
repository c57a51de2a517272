// Nothing is read or written but what a call was given: canaries lie right behind scratch and workspace and around and
// between the elements of every tensor, and both scratch and surroundings hold NaN, which any use would spread.
#include <gtest/gtest.h>

#include "tests/kernels/accuracy_rule.h"

namespace longfold::kernels {
namespace {

class MemorySafety : public testing::TestWithParam<cases::EvoformerCase> {};

constexpr int64_t kMargin = 200;
constexpr uint32_t kNaNs = 0xffffffffu, kOtherNaNs = 0xfffafffau;  // in fp32, bfloat16 and float16
constexpr uint32_t kSmall = 0x3e2a3e2au;                           // about 0.17 in fp32 and bfloat16, 1.5 in float16

template <class T>
void expect_only_own_memory_is_used(const cases::EvoformerCase& shape) {
  const Problem problem = make_problem<T>(shape);
  // Small numbers show writes that NaN would hide, as a sum on top of it does; NaN shows reads.
  const Solution quiet = solve_with_kernels<T>(
      problem, {.surroundings = {.filler = 0.125, .margin = kMargin}, .scratch_content = 0, .canary = kSmall});
  const Solution poisoned = solve_with_kernels<T>(problem, {.items_per_call = 3,
                                                            .surroundings = {.filler = std::nan(""), .margin = kMargin},
                                                            .scratch_content = kNaNs,
                                                            .canary = kOtherNaNs});
  EXPECT_EQ(quiet.damage, "");
  EXPECT_EQ(poisoned.damage, "");
  EXPECT_EQ(differences(quiet, poisoned), "");
  for (const auto& [name, numbers] : poisoned.all()) {
    for (const double number : *numbers) ASSERT_TRUE(std::isfinite(number)) << name;
  }
}

TEST_P(MemorySafety, OnlyOwnMemoryIsUsed) {
  expect_only_own_memory_is_used<float>(GetParam());
  expect_only_own_memory_is_used<bfloat16>(GetParam());
  expect_only_own_memory_is_used<float16>(GetParam());
}

// Every layout at sizes that fill neither panels, blocks nor vectors.
std::vector<cases::EvoformerCase> layouts_and_sizes() {
  using enum cases::BiasKind;
  using enum cases::ElementType;
  std::vector<cases::EvoformerCase> all = cases::evoformer_cases();
  int64_t number = 0;
  for (const auto& [name, layout] :
       {std::pair{"contiguous", cases::Layout::kContiguous}, std::pair{"length_first", cases::Layout::kLengthFirst},
        std::pair{"heads_first", cases::Layout::kHeadsFirst}, std::pair{"wider", cases::Layout::kWider},
        std::pair{"inner_stride", cases::Layout::kInnerStride}, std::pair{"shared", cases::Layout::kSharedBatch}}) {
    for (const int64_t D : {1, 5, 17, 24, 31, 100}) {
      const int64_t Lq = 5 + 13 * (number % 7), Lk = 3 + 17 * (number % 5);
      all.push_back(
          {name, 2, 2, Lq, Lk, 2, D, {{kMask, kOfQueries}, {kPair, kOfQueries}, {kGeneral, kFloat64}}, layout});
      ++number;
    }
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Shapes, MemorySafety, testing::ValuesIn(layouts_and_sizes()), [](const auto& tested) {
  return std::string(tested.param.name) + "_" + std::to_string(tested.index);
});

// Gradients that nobody asked for are not made: nothing is written, and no workspace is needed.
TEST(MemorySafety, GradientsThatAreNotWanted) {
  Problem problem = make_problem<float>({.name = "small", .B = 1, .N = 3, .Lq = 70, .Lk = 75, .H = 2, .D = 32});
  const Solution all = solve_with_kernels<float>(problem);
  problem.wants_grad_pair = problem.wants_grad_mask = false;
  const Solution few = solve_with_kernels<float>(problem);
  EXPECT_EQ(differences(few, all), "grad_pair grad_mask ");
  PlacedProblem<float> placed(problem, problem.shape.layout, {});
  EXPECT_EQ(plan_backward(placed.backward_args()).workspace_bytes, 0);
  EXPECT_EQ(plan_backward(placed.backward_args()).num_finish_items, 0);
}

// The canaries must be able to notice.
TEST(MemorySafety, GuardsNotice) {
  GuardedBytes bytes(256, 0, kSmall);
  EXPECT_TRUE(bytes.guards_untouched());
  bytes.span().data()[256] = std::byte{1};
  EXPECT_FALSE(bytes.guards_untouched());
  PlacedTensor<float, 4> tensor({1, 1, 2, 3}, {{0, 1, 2, 3}, 3}, {});
  tensor.fill(1);
  EXPECT_TRUE(tensor.surroundings_untouched());
  tensor.view().data[4] = 0;
  EXPECT_FALSE(tensor.surroundings_untouched()) << "between two elements";
}

}  // namespace
}  // namespace longfold::kernels
