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
  EXPECT_EQ(check<T>(with_heights<T>([](double j) { return j < 64 ? -7.0 : 0.0; })), "") << "lags behind";
  EXPECT_EQ(check<T>(with_heights<T>([](double j) { return j < 64 ? -13.0 : -5.7; })), "") << "log-sum-exp near 0";
  EXPECT_EQ(check<T>(with_heights<T>([](double j) { return j < 200 ? -1e9 : 0.0; })), "") << "masked at first";
  EXPECT_EQ(check<T>(with_heights<T>([](double j) { return j < 200 ? -INFINITY : 0.0; })), "") << "at -infinity";
}

TEST(RunningMaximum, HoweverItMoves) {
  check_heights<float>();
  check_heights<bfloat16>();
  check_heights<float16>();
}

// NaN in one query, or in one key, is not taken for a masked row.
template <class T>
void check_nan() {
  for (const FullyMasked mode : {FullyMasked::kZero, FullyMasked::kMean}) {
    Problem problem = make_problem<T>(kRow);
    problem.fully_masked = mode;
    problem.q[0] = std::nan("");
    Solution solution = solve_with_kernels<T>(problem);
    EXPECT_TRUE(std::isnan(solution.out[0]) && std::isnan(solution.lse[0]) && std::isnan(solution.grad_q[0]));
    EXPECT_FALSE(std::isnan(solution.lse[1]));
    problem = make_problem<T>(kRow);
    problem.k[0] = std::nan("");
    solution = solve_with_kernels<T>(problem);
    EXPECT_TRUE(std::isnan(solution.out[0]) && std::isnan(solution.lse[0]));
  }
}

TEST(RunningMaximum, NaNStaysNaN) {
  check_nan<float>();
  check_nan<bfloat16>();
  check_nan<float16>();
}

// Query 1 makes its block move, or not: no other query may notice.
template <class T>
void expect_queries_to_be_alone() {
  const Problem calm = make_problem<T>(kRow);
  Problem jumping = calm;
  Numbers& pair = jumping.bias(cases::BiasKind::kPair);
  pair[static_cast<size_t>(kRow.Lk + 30)] = 20;
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

// A block may be done in one step or in two, by what the item met before: in every second row, maxima move.
template <class T>
void expect_no_history() {
  cases::EvoformerCase rows = kRow;
  rows.N = 6;
  Problem problem = make_problem<T>(rows);
  Numbers& mask = problem.bias(cases::BiasKind::kMask);
  for (int64_t n = 1; n < rows.N; n += 2) {
    for (const int64_t key : {100, 200, 299}) mask[static_cast<size_t>(n * rows.Lk + key)] = static_cast<double>(key);
  }
  const Solution whole = solve_with_kernels<T>(problem);
  for (const Conditions& conditions : {Conditions{.num_threads = 3}, Conditions{.cut_for_threads = 7},
                                       Conditions{.cut_for_threads = 2, .items_per_call = 1 << 20}}) {
    EXPECT_EQ(differences(whole, solve_with_kernels<T>(problem, conditions)), "");
  }
  for (int64_t n = 0; n < rows.N; ++n) {
    const Solution alone = solve_with_kernels<T>(rows_of(problem, n, n + 1));
    EXPECT_TRUE(same_bits(alone.out, rows_of(whole.out, rows.B, rows.N, n, n + 1))) << n;
    EXPECT_TRUE(same_bits(alone.lse, rows_of(whole.lse, rows.B, rows.N, n, n + 1))) << n;
  }
}

TEST(RunningMaximum, HistoryLeavesNoTrace) {
  expect_no_history<float>();
  expect_no_history<bfloat16>();
}

TEST(RunningMaximum, EachQueryIsAlone) {
  expect_queries_to_be_alone<float>();
  expect_queries_to_be_alone<bfloat16>();
}

}  // namespace
}  // namespace longfold::kernels
