// The maximum that weights are taken relative to moves only when a logit passes it by a margin: rows that never, once
// and always pass it, and the independence of each query from what the others make the block do.
#include <gtest/gtest.h>

#include "tests/kernels/accuracy_rule.h"

namespace longfold::kernels {
namespace {

const cases::EvoformerCase kRow{.name = "row", .B = 1, .N = 2, .Lq = 66, .Lk = 300, .H = 1, .D = 16};

// logit(i, j) gets height(j) on top of its random value.
template <class T, class Height>
Problem with_heights(const Height& height) {
  Problem problem = make_problem<T>(kRow);
  for (size_t at = 0; at < problem.bias(cases::BiasKind::kPair).size(); ++at) {
    problem.bias(cases::BiasKind::kPair)[at] += height(static_cast<double>(at % static_cast<size_t>(kRow.Lk)));
  }
  for (BiasValues& bias : problem.biases) round_to(bias.dtype, bias.numbers);
  return problem;
}

template <class T>
void check_heights() {
  EXPECT_EQ(check<T>(with_heights<T>([](double j) { return 0.02 * j; })), "") << "stays within the margin";
  EXPECT_EQ(check<T>(with_heights<T>([](double j) { return 0.2 * j; })), "") << "passes it in every block";
  EXPECT_EQ(check<T>(with_heights<T>([](double j) { return -0.2 * j; })), "") << "falls";
  EXPECT_EQ(check<T>(with_heights<T>([](double j) { return j == 150 ? 60.0 : 0.0; })), "") << "once";
  EXPECT_EQ(check<T>(with_heights<T>([](double j) { return j == 299 ? 1e4 : 0.0; })), "") << "the last key decides";
  EXPECT_EQ(check<T>(with_heights<T>([](double j) { return j < 200 ? -1e9 : 0.0; })), "") << "masked at first";
  EXPECT_EQ(check<T>(with_heights<T>([](double j) { return j < 200 ? -INFINITY : 0.0; })), "") << "at -infinity";
}

TEST(RunningMaximum, HoweverItMoves) {
  check_heights<float>();
  check_heights<bfloat16>();
  check_heights<float16>();
}

// Query 1 makes its block move, or not: no other query may notice.
template <class T>
void expect_queries_to_be_alone() {
  const Problem calm = make_problem<T>(kRow);
  Problem jumping = calm;
  Numbers& pair = jumping.bias(cases::BiasKind::kPair);
  pair[static_cast<size_t>(kRow.Lk + 100)] = 50;
  pair[static_cast<size_t>(kRow.Lk + 290)] = 90;
  Solution a = solve_with_kernels<T>(calm), b = solve_with_kernels<T>(jumping);
  EXPECT_FALSE(same_bits(a.out, b.out));
  for (Solution* solution : {&a, &b}) {
    for (int64_t n = 0; n < kRow.N; ++n) {
      const auto query = static_cast<size_t>(n * kRow.Lq + 1), D = static_cast<size_t>(kRow.D);
      for (size_t d = 0; d < D; ++d) solution->out[query * D + d] = solution->grad_q[query * D + d] = 0;
      solution->lse[query] = solution->lse_correction[query] = 0;
    }
    for (Numbers* of_all : {&solution->grad_k, &solution->grad_v, &solution->grad_pair, &solution->grad_mask}) {
      of_all->clear();
    }
  }
  EXPECT_EQ(differences(a, b), "");
}

TEST(RunningMaximum, EachQueryIsAlone) {
  expect_queries_to_be_alone<float>();
  expect_queries_to_be_alone<bfloat16>();
}

}  // namespace
}  // namespace longfold::kernels
