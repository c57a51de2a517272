// Sums over many rows, queries and keys keep their digits: solutions are held against those of one term at a time,
// added up in fp64. `solve` is whoever solves problems.
#pragma once

#include <gtest/gtest.h>

#include "tests/kernels/accuracy_rule.h"

namespace longfold::kernels {

// Of the largest sum: four roundings of an fp32 number; and what a chain of 32 products may lose.
constexpr double kRounding = 0x1p-22, kChain = 0x1p-20;

inline cases::EvoformerCase shape_of_sums(int64_t N, int64_t Lq, int64_t Lk, int64_t D) {
  return {.name = "sums", .B = 1, .N = N, .Lq = Lq, .Lk = Lk, .H = 1, .D = D};
}

// Makes numbers [count][...] a common part plus `noise` times what they were.
inline void make_alike(Numbers& numbers, int64_t count, double noise) {
  const size_t one = numbers.size() / static_cast<size_t>(count);
  for (size_t i = one; i < numbers.size(); ++i) numbers[i] = numbers[i % one] + noise * numbers[i];
}

template <class T, class Solve>
void expect_sum_over_rows(const cases::EvoformerCase& shape, double noise, const Solve& solve) {
  Problem problem = make_problem<T>(shape);
  for (Numbers* numbers : {&problem.q, &problem.k, &problem.v, &problem.grad_out}) {
    make_alike(*numbers, shape.N, noise);
    round_to(dtype_of<T>(), *numbers);
  }
  for (Numbers* numbers : {&problem.grad_lse, &problem.bias(cases::BiasKind::kMask)}) {
    make_alike(*numbers, shape.N, noise);
    round_to(DType::kFloat32, *numbers);
  }
  const Solution whole = solve(problem);
  Numbers sum(whole.grad_pair.size()), sizes(whole.grad_pair.size());
  Solution row;
  for (int64_t n = 0; n < shape.N; ++n) {
    if (n == 0 || noise != 0) row = solve(rows_of(problem, n, n + 1));
    for (size_t i = 0; i < sum.size(); ++i) {
      sum[i] += row.grad_pair[i];
      sizes[i] += std::abs(row.grad_pair[i]);
    }
  }
  EXPECT_GT(largest(sizes), 0);
  EXPECT_LE(error(whole.grad_pair, sum), kRounding * largest(sizes));
}

// The same query again and again: each sum over queries is half as many times that of two. (With one query alone a pair
// bias counts as a mask.)
template <class Solve>
void expect_sums_over_queries(int64_t Lq, int64_t Lk, int64_t D, const Solve& solve) {
  const Problem one = make_problem<float>(shape_of_sums(2, 1, Lk, D));
  const auto repeated = [&](int64_t times) {
    Problem many = make_problem<float>(shape_of_sums(2, times, Lk, D));
    const auto copy = [&](const Numbers& from, Numbers& to, int64_t outer) {
      const size_t inner = from.size() / static_cast<size_t>(outer);
      for (size_t i = 0; i < to.size(); ++i) to[i] = from[i / (inner * static_cast<size_t>(times)) * inner + i % inner];
    };
    many.k = one.k;
    many.v = one.v;
    many.biases[0] = one.biases[0];
    copy(one.q, many.q, 2);
    copy(one.grad_out, many.grad_out, 2);
    copy(one.grad_lse, many.grad_lse, 2);
    copy(one.biases[1].numbers, many.biases[1].numbers, 1);
    return many;
  };
  const Solution two = solve(repeated(2)), whole = solve(repeated(Lq));
  const auto expect = [&](const Numbers& got, Numbers term, const char* name, double allowed) {
    for (double& value : term) value *= static_cast<double>(Lq) / 2;
    EXPECT_GT(largest(term), 0);
    EXPECT_LE(error(got, term), allowed * largest(term)) << name << " over " << Lq << " queries";
  };
  expect(whole.grad_mask, two.grad_mask, "grad_mask", kRounding);
  expect(whole.grad_k, two.grad_k, "grad_k", kChain);
  expect(whole.grad_v, two.grad_v, "grad_v", kChain);
}

// The same key again and again: the output is v, and all keys have the same small share of the gradients.
template <class Solve>
void expect_sums_over_keys(int64_t Lk, int64_t D, const Solve& solve) {
  Problem problem = make_problem<float>(
      {.name = "keys", .B = 1, .N = 1, .Lq = 2, .Lk = Lk, .H = 1, .D = D, .biases = {{cases::BiasKind::kMask}}});
  make_alike(problem.k, Lk, 0);
  make_alike(problem.v, Lk, 0);
  std::ranges::fill(problem.bias(cases::BiasKind::kMask), 0);
  const Solution got = solve(problem), exact = solve_with_reference<double>(problem);
  EXPECT_LE(error(got.out, exact.out), 2 * kChain * largest(exact.out)) << Lk;
  EXPECT_LE(error(got.lse, exact.lse), kRounding * largest(exact.lse)) << Lk;
  EXPECT_LE(error(got.grad_q, exact.grad_q), 2 * floor_of<float>("grad_q", problem, exact)) << Lk;
}

}  // namespace longfold::kernels
