// The same bits every run; a row's bits depend neither on N nor on its neighbours.
#include <gtest/gtest.h>

#include "tests/cuda/cuda_solution.h"

namespace longfold::kernels::cuda {
namespace {

class Determinism : public testing::TestWithParam<cases::EvoformerCase> {};

template <class T>
Problem problem_with_every_gradient(const cases::EvoformerCase& shape) {
  Problem problem = make_problem<T>(shape);
  problem.wants_grad_logits = true;
  return problem;
}

template <class T>
void expect_same_bits_again(const cases::EvoformerCase& shape) {
  const Problem problem = problem_with_every_gradient<T>(shape);
  const Solution first = solve_on_cuda<T>(problem);
  for (int run = 0; run < 3; ++run) EXPECT_EQ(differences(first, solve_on_cuda<T>(problem)), "") << run;
}

TEST_P(Determinism, AnyRun) {
  expect_same_bits_again<float>(GetParam());
  expect_same_bits_again<bfloat16>(GetParam());
  expect_same_bits_again<float16>(GetParam());
}

// Blocks that go through several items one after the other, more of them than run at a time: what one item has read the
// next one may overwrite, but not before.
TEST(Determinism, OfManyItems) {
  expect_same_bits_again<bfloat16>({.name = "many_items", .B = 6, .N = 1, .Lq = 512, .Lk = 512, .H = 16, .D = 24});
  expect_same_bits_again<bfloat16>({.name = "many_items", .B = 2, .N = 40, .Lq = 256, .Lk = 256, .H = 8, .D = 32});
  expect_same_bits_again<float>({.name = "many_items", .B = 2, .N = 40, .Lq = 200, .Lk = 200, .H = 8, .D = 32});
}

template <class T>
void expect_rows_alone_give_the_same(const cases::EvoformerCase& shape) {
  const Problem problem = problem_with_every_gradient<T>(shape);
  const Solution whole = solve_on_cuda<T>(problem);
  const int64_t N = shape.N;
  for (const int64_t chunk : {int64_t{1}, (N + 1) / 2}) {
    for (int64_t begin = 0; begin < N; begin += chunk) {
      const int64_t end = std::min(begin + chunk, N);
      Solution part = solve_on_cuda<T>(rows_of(problem, begin, end));
      part.grad_pair = whole.grad_pair;
      EXPECT_EQ(differences(part, whole.rows(shape.B, N, begin, end)), "")
          << "rows " << begin << " to " << end << " of " << N;
    }
  }
}

// By blocks of every kind that the forward pass has: of rows, of one row, of few queries.
TEST(Determinism, RowsDoNotDependOnBlocks) {
  expect_rows_alone_give_the_same<bfloat16>(
      {.name = "many_rows", .B = 2, .N = 40, .Lq = 256, .Lk = 256, .H = 8, .D = 32});
}

TEST_P(Determinism, RowsDoNotDependOnN) {
  expect_rows_alone_give_the_same<float>(GetParam());
  expect_rows_alone_give_the_same<bfloat16>(GetParam());
}

// NaN in one row stays there, except in the gradient that is summed over rows.
template <class T>
void expect_rows_do_not_see_their_neighbours(const cases::EvoformerCase& shape) {
  if (shape.N < 3 || shape.layout == cases::Layout::kSharedBatch) return;
  const Problem problem = problem_with_every_gradient<T>(shape);
  Solution clean = solve_on_cuda<T>(problem);
  Problem poisoned = problem;
  const int64_t rows = shape.B * shape.N;
  for (Numbers* numbers : {&poisoned.q, &poisoned.k, &poisoned.v, &poisoned.grad_out, &poisoned.grad_lse}) {
    const size_t row = numbers->size() / static_cast<size_t>(rows);
    for (size_t i = row; i < 2 * row; ++i) (*numbers)[i] = std::nan("");
  }
  Solution other = solve_on_cuda<T>(poisoned);
  EXPECT_TRUE(std::isnan(other.out[clean.out.size() / static_cast<size_t>(rows)])) << "row 1";
  EXPECT_TRUE(std::isnan(other.grad_pair[0]));
  for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 1}, {2, shape.N}}) {
    Solution left = clean.rows(1, rows, begin, end), right = other.rows(1, rows, begin, end);
    left.grad_pair.clear(), right.grad_pair.clear();
    EXPECT_EQ(differences(left, right), "") << "rows " << begin << " to " << end;
  }
}

TEST_P(Determinism, RowsDoNotSeeTheirNeighbours) {
  expect_rows_do_not_see_their_neighbours<float>(GetParam());
  expect_rows_do_not_see_their_neighbours<bfloat16>(GetParam());
}

INSTANTIATE_TEST_SUITE_P(Shapes, Determinism, testing::ValuesIn(cases::evoformer_cases()),
                         [](const auto& tested) { return std::string(tested.param.name); });

}  // namespace
}  // namespace longfold::kernels::cuda
