// The same bits whatever the number of threads, the cut into items, the chunks of N, and the memory the call finds.
#include <gtest/gtest.h>

#include "longfold/kernels/evoformer/tile_size.h"
#include "tests/kernels/attention_solution.h"

namespace longfold::kernels {
namespace {

using cases::BiasKind;

// A general bias has its gradient made as well.
template <class T>
Problem problem_with_every_gradient(const cases::EvoformerCase& shape) {
  Problem problem = make_problem<T>(shape);
  problem.wants_grad_logits =
      std::ranges::any_of(shape.biases, [](const cases::Bias& bias) { return bias.kind == BiasKind::kGeneral; });
  return problem;
}

class Determinism : public testing::TestWithParam<cases::EvoformerCase> {};

template <class T>
void expect_same_bits_for_any_threads(const cases::EvoformerCase& shape) {
  const Problem problem = problem_with_every_gradient<T>(shape);
  const Solution one = solve_with_kernels<T>(problem);
  for (const int num_threads : {2, 3, 7}) {
    EXPECT_EQ(differences(one, solve_with_kernels<T>(problem, {.num_threads = num_threads})), "") << num_threads;
  }
}

TEST_P(Determinism, AnyThreads) {
  expect_same_bits_for_any_threads<float>(GetParam());
  expect_same_bits_for_any_threads<bfloat16>(GetParam());
}

// The forward pass is cut by the number of threads, and a call may run one item or all of them.
template <class T>
void expect_same_bits_for_any_cut(const cases::EvoformerCase& shape) {
  const Problem problem = problem_with_every_gradient<T>(shape);
  const Solution one = solve_with_kernels<T>(problem);
  for (const int64_t cut : {1, 2, 7, 64}) {
    for (const int64_t items : {3, 1 << 20}) {
      const Solution other = solve_with_kernels<T>(problem, {.cut_for_threads = cut, .items_per_call = items});
      EXPECT_EQ(differences(one, other), "") << "cut for " << cut << " threads, " << items << " items at once";
    }
  }
}

TEST_P(Determinism, AnyCut) {
  expect_same_bits_for_any_cut<float>(GetParam());
  expect_same_bits_for_any_cut<bfloat16>(GetParam());
}

// What must not depend on N: everything but the gradient that is summed over it.
template <class T>
void expect_rows_alone_give_the_same(const cases::EvoformerCase& shape) {
  const Problem problem = problem_with_every_gradient<T>(shape);
  const Solution whole = solve_with_kernels<T>(problem);
  const int64_t N = shape.N;
  for (const int64_t chunk : {int64_t{1}, int64_t{2}, (N + 1) / 2}) {
    for (int64_t begin = 0; begin < N; begin += chunk) {
      const int64_t end = std::min(begin + chunk, N);
      Solution part = solve_with_kernels<T>(rows_of(problem, begin, end));
      part.grad_pair = whole.grad_pair;
      EXPECT_EQ(differences(part, whole.rows(shape.B, N, begin, end)), "")
          << "rows " << begin << " to " << end << " of " << N;
    }
  }
}

TEST_P(Determinism, RowsDoNotDependOnN) {
  expect_rows_alone_give_the_same<float>(GetParam());
  expect_rows_alone_give_the_same<bfloat16>(GetParam());
}

// NaN in one row stays there, except in the gradient that is summed over rows.
template <class T>
void expect_rows_do_not_see_their_neighbours(const cases::EvoformerCase& shape) {
  if (shape.N < 3 || shape.layout == cases::Layout::kSharedBatch) return;
  const Problem problem = make_problem<T>(shape);
  const Solution clean = solve_with_kernels<T>(problem);
  Problem poisoned = problem;
  for (Numbers* numbers : {&poisoned.q, &poisoned.k, &poisoned.v, &poisoned.grad_out, &poisoned.grad_lse}) {
    const size_t row = numbers->size() / static_cast<size_t>(shape.B * shape.N);
    for (size_t i = row; i < 2 * row; ++i) (*numbers)[i] = std::nan("");
  }
  const Solution other = solve_with_kernels<T>(poisoned);
  EXPECT_TRUE(std::isnan(other.out[clean.out.size() / static_cast<size_t>(shape.B * shape.N)])) << "row 1";
  for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 1}, {2, shape.N}}) {
    Solution left = clean, right = other;
    for (Solution* solution : {&left, &right}) {
      solution->grad_pair.clear();
      for (Numbers* numbers : {&solution->out, &solution->lse, &solution->lse_correction, &solution->grad_q,
                               &solution->grad_k, &solution->grad_v, &solution->grad_mask}) {
        *numbers = rows_of(*numbers, 1, shape.B * shape.N, begin, end);
      }
    }
    EXPECT_EQ(differences(left, right), "") << "rows " << begin << " to " << end;
  }
}

TEST_P(Determinism, RowsDoNotSeeTheirNeighbours) {
  expect_rows_do_not_see_their_neighbours<float>(GetParam());
  expect_rows_do_not_see_their_neighbours<bfloat16>(GetParam());
}

INSTANTIATE_TEST_SUITE_P(Shapes, Determinism, testing::ValuesIn(cases::evoformer_cases()),
                         [](const auto& tested) { return std::string(tested.param.name); });

template <class T>
void expect_same_bits_over_runs(int num_runs) {
  const Problem problem = make_problem<T>({.name = "small", .B = 1, .N = 5, .Lq = 70, .Lk = 75, .H = 2, .D = 24});
  const Solution first = solve_with_kernels<T>(problem, {.num_threads = 3});
  for (int run = 1; run < num_runs; ++run) {
    ASSERT_EQ(differences(first, solve_with_kernels<T>(problem, {.num_threads = 3})), "") << "run " << run;
  }
}

TEST(Determinism, HundredRuns) {
  expect_same_bits_over_runs<float>(100);
  expect_same_bits_over_runs<bfloat16>(100);
  expect_same_bits_over_runs<float16>(100);
}

// The order of several biases of several kinds must not depend on which of them N = 1 makes look alike.
TEST(Determinism, RowsDoNotDependOnNWithBiasesInAnyOrder) {
  using enum BiasKind;
  for (const std::vector<cases::Bias>& biases : {std::vector<cases::Bias>{{kGeneral}, {kPair}, {kSharedPair}},
                                                 {{kPair}, {kGeneral}, {kSharedPair}},
                                                 {{kGeneral}, {kGeneral}, {kPair}},
                                                 {{kHeadMask}, {kGeneral}, {kMask}, {kPair}, {kSharedPair}}}) {
    const cases::EvoformerCase shape{"biases", 1, 3, 20, 30, 2, 16, biases};
    expect_rows_alone_give_the_same<float>(shape);
    expect_rows_alone_give_the_same<bfloat16>(shape);
  }
}

// A single row is cut into items, by its queries, which a row among others is not, nor one whose pair bias wants no
// gradient. Short sums, long ones, and head dims whose sums stand side by side.
template <class T>
void expect_same_bits_for_cut_rows(const cases::EvoformerCase& shape) {
  const Shape one{1, 1, shape.Lq, shape.Lk, shape.H, shape.D};
  ASSERT_GT(cut_backward(one, true).span_groups, 1);
  expect_rows_alone_give_the_same<T>(shape);
  Problem problem = rows_of(make_problem<T>(shape), 0, 1);
  const Solution cut = solve_with_kernels<T>(problem, {.num_threads = 3});
  EXPECT_EQ(differences(cut, solve_with_kernels<T>(problem, {.items_per_call = 1 << 20})), "");
  problem.wants_grad_pair = false;
  EXPECT_EQ(differences(cut, solve_with_kernels<T>(problem)), "grad_pair ");
}

TEST(Determinism, RowsThatAreCutByTheirQueries) {
  for (const int64_t D : {8, 24, 32}) {
    for (const int64_t Lq : {300, 1000, 1100}) {
      const cases::EvoformerCase shape{.name = "cut", .B = 1, .N = 2, .Lq = Lq, .Lk = 140, .H = 1, .D = D};
      expect_same_bits_for_cut_rows<float>(shape);
      expect_same_bits_for_cut_rows<bfloat16>(shape);
    }
  }
}

}  // namespace
}  // namespace longfold::kernels
