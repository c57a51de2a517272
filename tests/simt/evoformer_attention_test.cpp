// The shared case list through the kernels on tensor cores, by the accuracy rule; the same bits in every mode, with and
// without tensor maps.
#include <gtest/gtest.h>

#include "tests/kernels/wrong_answers.h"
#include "tests/simt/every_mode.h"
#include "tests/simt/host_solution.h"

namespace longfold::kernels::cuda::mma {
namespace {

using cases::BiasKind;

template <class T>
Solution solved(const kernels::Problem& problem, const HostLaunch& launch = {}) {
  return solve_on_host<T>(problem, launch).value();
}

template <class T>
std::string check_on_host(const kernels::Problem& problem) {
  return broken_rule<T>(problem, solved<T>(problem), solve_with_reference<T>(problem),
                        solve_with_reference<double>(problem));
}

cases::EvoformerCase case_named(std::string_view name) {
  for (const cases::EvoformerCase& shape : cases::evoformer_cases()) {
    if (shape.name == name) return shape;
  }
  throw std::invalid_argument("no such case");
}

class EvoformerAttention : public testing::TestWithParam<cases::EvoformerCase> {};

template <class T>
void expect_correct(const cases::EvoformerCase& shape) {
  const kernels::Problem problem = make_problem<T>(shape);
  const std::optional<Solution> solution = solve_on_host<T>(problem);
  if (!solution) GTEST_SKIP() << "the plain kernels' business, or not built";
  EXPECT_EQ(broken_rule<T>(problem, *solution, solve_with_reference<T>(problem), solve_with_reference<double>(problem)),
            "");
  const HostLaunch other{
      .mode = {simt::Order::kDescending, simt::Delivery::kLatest}, .most_blocks = 2, .has_tensor_maps = true};
  EXPECT_EQ(differences(solved<T>(problem, other), *solution), "") << "by tensor maps, in another order";
}

TEST_P(EvoformerAttention, BFloat16) {
  expect_correct<bfloat16>(GetParam());
}
TEST_P(EvoformerAttention, Float16) {
  expect_correct<float16>(GetParam());
}

INSTANTIATE_TEST_SUITE_P(Shapes, EvoformerAttention, testing::ValuesIn(cases::evoformer_cases()),
                         [](const auto& tested) { return std::string(tested.param.name); });

class EveryMode : public testing::TestWithParam<const char*> {};

TEST_P(EveryMode, SameBits) {
  const kernels::Problem problem = make_problem<bfloat16>(case_named(GetParam()));
  const std::optional<Solution> first = solve_on_host<bfloat16>(problem);
  if (!first) GTEST_SKIP() << "not built";
  bool maps = false;
  for (const simt::Mode& mode : simt::every_mode()) {
    maps = !maps;
    const HostLaunch launch{.mode = mode, .most_blocks = maps ? 1u : 4u, .has_tensor_maps = maps};
    EXPECT_EQ(differences(solved<bfloat16>(problem, launch), *first), "");
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, EveryMode, testing::Values("atom", "chunk_of_projection"),
                         [](const auto& tested) { return std::string(tested.param); });

TEST(EvoformerAttention, LargeBiases) {
  for (const double bias_std : {20.0, 50.0}) {
    EXPECT_EQ(check_on_host<bfloat16>(make_problem<bfloat16>(kSmall, bias_std)), "") << bias_std;
  }
  kernels::Problem shifted = make_problem<bfloat16>(kSmall);
  for (double& bias : shifted.biases[0].numbers) bias -= 1e4;
  round_to(shifted.biases[0].dtype, shifted.biases[0].numbers);
  EXPECT_EQ(check_on_host<bfloat16>(shifted), "") << "all logits near -1e4";
}

TEST(EvoformerAttention, MaskedKeysWeighNothing) {
  for (const double hidden : {-1e9, -double{INFINITY}}) {
    kernels::Problem problem = make_problem<bfloat16>(kSmall);
    Numbers& mask = problem.bias(BiasKind::kMask);
    for (size_t j = 0; j < mask.size(); ++j) mask[j] = j % 3 == 1 || (j > 40 && j < 139) ? hidden : 0;
    EXPECT_EQ(check_on_host<bfloat16>(problem), "") << hidden;
  }
}

TEST(EvoformerAttention, FullyMaskedRows) {
  for (const double hidden : {-1e9, -double{INFINITY}}) {
    for (const FullyMasked mode : {FullyMasked::kZero, FullyMasked::kMean}) {
      kernels::Problem problem = make_problem<bfloat16>(kSmall);
      for (size_t j = 0; j < static_cast<size_t>(kSmall.Lk); ++j) problem.bias(BiasKind::kMask)[j] = hidden;
      problem.fully_masked = mode;
      EXPECT_EQ(check_on_host<bfloat16>(problem), "") << hidden << (mode == FullyMasked::kZero ? " zero" : " mean");
    }
  }
}

// Alone, so that no other row's gradients are the scale that errors are held to; and with few keys, so that the many of
// a tile that are not there would show.
TEST(EvoformerAttention, EveryRowFullyMasked) {
  kernels::Problem problem =
      make_problem<bfloat16>({.name = "few_keys", .B = 1, .N = 2, .Lq = 20, .Lk = 9, .H = 2, .D = 32});
  for (double& mask : problem.bias(BiasKind::kMask)) mask = -1e9;
  problem.fully_masked = FullyMasked::kMean;
  EXPECT_EQ(check_on_host<bfloat16>(problem), "");
}

// Gradients of logits are the plain kernels' business: here plain loops give them.
TEST(EvoformerAttention, TheRuleRejectsWrongAnswers) {
  expect_wrong_answers_to_be_rejected<bfloat16>(1.02, [](const kernels::Problem& problem) {
    Solution solution = solved<bfloat16>(problem);
    solution.grad_logits = solve_with_reference<bfloat16>(problem).grad_logits;
    return solution;
  });
}

}  // namespace
}  // namespace longfold::kernels::cuda::mma
