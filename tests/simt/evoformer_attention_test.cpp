// The shared case list through the kernels on tensor cores, by the accuracy rule, and their bits in every mode.
#include <gtest/gtest.h>

#include "tests/kernels/wrong_answers.h"
#include "tests/simt/every_mode.h"
#include "tests/simt/host_solution.h"

namespace longfold::kernels::cuda::mma {
namespace {

class EvoformerAttention : public testing::TestWithParam<cases::EvoformerCase> {};

template <class T>
std::string check_on_host(const kernels::Problem& problem, const HostLaunch& launch = {}) {
  const std::optional<Solution> solution = solve_on_host<T>(problem, launch);
  if (!solution) return "not taken";
  return broken_rule<T>(problem, *solution, solve_with_reference<T>(problem), solve_with_reference<double>(problem));
}

TEST_P(EvoformerAttention, BFloat16) {
  const std::string broken = check_on_host<bfloat16>(make_problem<bfloat16>(GetParam()));
  if (broken == "not taken") GTEST_SKIP() << "the plain kernels' business";
  EXPECT_EQ(broken, "");
}

TEST_P(EvoformerAttention, Float16) {
  const std::string broken = check_on_host<float16>(make_problem<float16>(GetParam()));
  if (broken == "not taken") GTEST_SKIP() << "the plain kernels' business";
  EXPECT_EQ(broken, "");
}

INSTANTIATE_TEST_SUITE_P(Shapes, EvoformerAttention, testing::ValuesIn(cases::evoformer_cases()),
                         [](const auto& tested) { return std::string(tested.param.name); });

}  // namespace
}  // namespace longfold::kernels::cuda::mma
