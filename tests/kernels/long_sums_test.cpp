// Sums over many rows, queries, keys, batches and heads keep their digits, however many terms there are and however
// alike they are: each is held against the kernels' own results for one term at a time, added up in fp64.
#include <gtest/gtest.h>

#include "longfold/kernels/evoformer/tile_size.h"
#include "tests/kernels/accuracy_rule.h"

namespace longfold::kernels {
namespace {

using cases::BiasKind;

// Of the largest sum: four roundings of an fp32 number; and what a product's chain of 64 terms may lose.
constexpr double kRounding = 0x1p-22, kChain = 0x1p-20;

cases::EvoformerCase shape_of(int64_t N, int64_t Lq, int64_t Lk, int64_t D = 8, int64_t H = 1) {
  cases::EvoformerCase shape{.name = "sums", .B = 1, .N = N, .Lq = Lq, .Lk = Lk, .H = H, .D = D, .biases = {}};
  shape.biases.push_back({BiasKind::kMask});
  shape.biases.push_back({BiasKind::kPair});
  return shape;
}

Shape sizes_of(const cases::EvoformerCase& c) {
  return {.B = c.B, .N = c.N, .Lq = c.Lq, .Lk = c.Lk, .H = c.H, .D = c.D};
}

// Makes numbers [count][...] a common part plus `noise` times what they were.
void make_alike(Numbers& numbers, int64_t count, double noise) {
  const size_t one = numbers.size() / static_cast<size_t>(count);
  for (size_t i = one; i < numbers.size(); ++i) numbers[i] = numbers[i % one] + noise * numbers[i];
}

void expect_sums(const Numbers& got, const Numbers& expected, double largest_sum, const char* name,
                 double allowed = kRounding) {
  ASSERT_EQ(got.size(), expected.size());
  EXPECT_GT(largest_sum, 0) << name;
  EXPECT_LE(error(got, expected), allowed * largest_sum) << name;
}

// One sum over `noise`-like rows n, held against the rows one by one.
template <class T>
void expect_sum_over_rows(const cases::EvoformerCase& shape, double noise) {
  Problem problem = make_problem<T>(shape);
  for (Numbers* numbers : {&problem.q, &problem.k, &problem.v, &problem.grad_out, &problem.grad_lse}) {
    make_alike(*numbers, shape.N, noise);
    round_to(dtype_of<T>(), *numbers);
  }
  make_alike(problem.bias(BiasKind::kMask), shape.N, noise);
  round_to(DType::kFloat32, problem.bias(BiasKind::kMask));
  round_to(DType::kFloat32, problem.grad_lse);
  const Solution whole = solve_with_kernels<T>(problem);
  Numbers sum(whole.grad_pair.size()), sizes(whole.grad_pair.size());
  Solution row;
  for (int64_t n = 0; n < shape.N; ++n) {
    if (n == 0 || noise != 0) row = solve_with_kernels<T>(rows_of(problem, n, n + 1));
    for (size_t i = 0; i < sum.size(); ++i) {
      sum[i] += row.grad_pair[i];
      sizes[i] += std::abs(row.grad_pair[i]);
    }
  }
  expect_sums(whole.grad_pair, sum, largest(sizes), "grad_pair");
}

TEST(LongSums, PairGradientOfManyRows) {
  const auto shape = shape_of(1500, 3, 5);
  ASSERT_EQ(pair_sum(sizes_of(shape)), PairSum::kItem);
  for (const double noise : {0.0, 0.1}) {
    expect_sum_over_rows<float>(shape, noise);
    expect_sum_over_rows<bfloat16>(shape, noise);
  }
}

TEST(LongSums, PairGradientOfQuarterAMillionRows) {
  expect_sum_over_rows<float>(shape_of(1 << 18, 1, 2, 1), 0);
}

TEST(LongSums, PairGradientOfFewRows) {
  const auto shape = shape_of(7 * kPlainRows, 64, 5);
  ASSERT_EQ(pair_sum(sizes_of(shape)), PairSum::kPlain);
  for (const double noise : {0.0, 0.1}) expect_sum_over_rows<float>(shape, noise);
}

// So long that the rows at hand are few, and that nothing but a block is at hand.
TEST(LongSums, PairGradientOfLongRows) {
  const auto few_rows = shape_of(150, 130, 2000), blocks = shape_of(120, 130, 2100);
  ASSERT_EQ(pair_sum(sizes_of(few_rows)), PairSum::kRows);
  ASSERT_GT(backward_panel_groups(sizes_of(few_rows)), 1);
  ASSERT_EQ(pair_sum(sizes_of(blocks)), PairSum::kBlocks);
  for (const auto& shape : {few_rows, blocks}) {
    expect_sum_over_rows<float>(shape, 0);
    expect_sum_over_rows<bfloat16>(shape, 0);
  }
}

// A problem of one query with that query Lq times.
template <class T>
Problem repeated(Problem one, int64_t Lq) {
  Problem many = make_problem<T>(shape_of(one.shape.N, Lq, one.shape.Lk, one.shape.D));
  const auto copy = [&](const Numbers& from, Numbers& to, int64_t outer) {
    const size_t inner = from.size() / static_cast<size_t>(outer);
    for (size_t i = 0; i < to.size(); ++i) to[i] = from[i / (inner * static_cast<size_t>(Lq)) * inner + i % inner];
  };
  many.k = one.k;
  many.v = one.v;
  many.bias(BiasKind::kMask) = one.bias(BiasKind::kMask);
  copy(one.q, many.q, one.shape.N);
  copy(one.grad_out, many.grad_out, one.shape.N);
  copy(one.grad_lse, many.grad_lse, one.shape.N);
  copy(one.bias(BiasKind::kPair), many.bias(BiasKind::kPair), 1);
  return many;
}

// Sums over like queries are so many times those over two: with one query alone a pair bias counts as a mask, and the
// two are added up in another order.
template <class T>
void expect_sums_over_queries(int64_t Lq, int64_t Lk, int64_t D) {
  const Problem one = make_problem<T>(shape_of(2, 1, Lk, D));
  const Solution two = solve_with_kernels<T>(repeated<T>(one, 2)), whole = solve_with_kernels<T>(repeated<T>(one, Lq));
  const auto expect = [&](const Numbers& got, const Numbers& of_two, const char* name, double allowed) {
    Numbers expected;
    for (const double value : of_two) expected.push_back(static_cast<double>(Lq) / 2 * value);
    expect_sums(got, expected, largest(expected), name, allowed);
  };
  expect(whole.grad_mask, two.grad_mask, "grad_mask", kRounding);
  if constexpr (std::is_same_v<T, float>) {
    expect(whole.grad_k, two.grad_k, "grad_k", kChain);
    expect(whole.grad_v, two.grad_v, "grad_v", kChain);
  }
}

TEST(LongSums, OverQueries) {
  for (const int64_t Lq : {1024, 1100, 60000}) {
    expect_sums_over_queries<float>(Lq, 3, 8);
    expect_sums_over_queries<bfloat16>(Lq, 3, 8);
  }
}

// Long rows whose sums of grad_k and grad_v pass in parts.
TEST(LongSums, OverQueriesInParts) {
  const auto shape = shape_of(2, 1100, 200, 500);
  ASSERT_LT(grad_kv_keys(sizes_of(shape)), shape.Lk);
  expect_sums_over_queries<float>(1100, 200, 500);
}

// The same key again and again: the output is v, and all keys have the same small share of the gradients.
TEST(LongSums, OverKeys) {
  for (const int64_t Lk : {1024, 1025, 100000}) {
    Problem problem = make_problem<float>(
        {.name = "keys", .B = 1, .N = 1, .Lq = 2, .Lk = Lk, .H = 1, .D = 8, .biases = {{BiasKind::kMask}}});
    make_alike(problem.k, Lk, 0);
    make_alike(problem.v, Lk, 0);
    Numbers& mask = problem.bias(BiasKind::kMask);
    std::fill(mask.begin(), mask.end(), 0);
    const Solution got = solve_with_kernels<float>(problem), exact = solve_with_reference<double>(problem);
    EXPECT_LE(error(got.out, exact.out), 2 * kChain * largest(exact.out)) << Lk;
    EXPECT_LE(error(got.lse, exact.lse), kRounding * largest(exact.lse)) << Lk;
    EXPECT_LE(error(got.grad_q, exact.grad_q), 2 * floor_of<float>("grad_q", problem, exact)) << Lk;
  }
}

// A maximum that grows now and then, so that long sums shrink on the way.
TEST(LongSums, OverKeysWithAGrowingMaximum) {
  const int64_t Lk = 20000;
  for (const double step : {0.004, 20.0}) {
    Problem problem = make_problem<float>(
        {.name = "keys", .B = 1, .N = 1, .Lq = 70, .Lk = Lk, .H = 1, .D = 8, .biases = {{BiasKind::kMask}}});
    Numbers& mask = problem.bias(BiasKind::kMask);
    for (size_t j = 0; j < mask.size(); ++j) mask[j] = step * static_cast<double>(j) / (step < 1 ? 1.0 : 3000.0);
    round_to(DType::kFloat32, mask);
    EXPECT_EQ(check<float>(problem), "") << step;
    EXPECT_EQ(check<bfloat16>(problem), "") << step;
  }
}

}  // namespace
}  // namespace longfold::kernels
