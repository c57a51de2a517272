// A product of matrices with all that the kernels use: right, the same in every mode, and what is left out is noticed.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "tests/simt/every_mode.h"
#include "tests/simt/product_kernel.cuh"
#include "tests/simt/simt.h"

namespace longfold::kernels::cuda::product {
char shared[1];
}

namespace longfold::simt {
namespace {

using kernels::bfloat16;
using kernels::float16;
namespace product = kernels::cuda::product;
using product::Break;

struct Problem {
  int m, n, k;
  std::vector<uint16_t> a, b;
};

template <class T>
Problem problem(int m, int n, int k) {
  Problem result{m, n, k, {}, {}};
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  for (int i = 0; i < m * k; ++i) result.a.push_back(kernels::cuda::ptx::round_to<T>(normal(random)));
  for (int i = 0; i < n * k; ++i) result.b.push_back(kernels::cuda::ptx::round_to<T>(normal(random)));
  return result;
}

template <class T, Break Broken = Break::kNothing>
std::vector<float> multiplied(const Problem& problem, const Mode& mode, size_t shared_bytes = product::kSharedBytes) {
  std::vector<float> c(static_cast<size_t>(problem.m * problem.n), NAN);
  const product::Params params{problem.a.data(), problem.b.data(), c.data(), problem.m, problem.n, problem.k};
  launch(2, product::kThreads, shared_bytes, mode, product::kernel<T, Broken>, params);
  return c;
}

template <class T>
void expect_product(const Problem& problem) {
  const auto number = [](uint16_t bits) { return static_cast<double>(kernels::to_float(T{bits})); };
  const std::vector<float> c = multiplied<T>(problem, {});
  for (int i = 0; i < problem.m; ++i) {
    for (int j = 0; j < problem.n; ++j) {
      double expected = 0;
      for (int k = 0; k < problem.k; ++k) {
        expected += number(problem.a[static_cast<size_t>(i * problem.k + k)]) *
                    number(problem.b[static_cast<size_t>(j * problem.k + k)]);
      }
      EXPECT_NEAR(static_cast<double>(c[static_cast<size_t>(i * problem.n + j)]), expected, 1e-5) << i << ' ' << j;
    }
  }
  for (const Mode& mode : every_mode()) EXPECT_EQ(multiplied<T>(problem, mode), c);
}

TEST(Product, IsRightAndTheSameInEveryMode) {
  expect_product<bfloat16>(problem<bfloat16>(80, 40, 72));
  expect_product<float16>(problem<float16>(33, 17, 8));
}

template <Break Broken>
void expect_noticed(std::initializer_list<const char*> texts) {
  const Problem given = problem<bfloat16>(80, 40, 72);
  expect_error(texts, [&](const Mode& mode) { multiplied<bfloat16, Broken>(given, mode); });
}

TEST(Product, NeedsABlockBarrierAfterInit) {
  expect_noticed<Break::kBlockBarrierAfterInit>({"made with no sync_block in between", "barrier_init was not called"});
}

// Where consumers come first they read NaN, arrive for phases to come, and the producer loses count.
TEST(Product, NeedsTheWaitForCopies) {
  expect_noticed<Break::kWaitForFull>({"is under way", "without a wait for the barrier of the copy", "read by",
                                       "can go on", "before it could see that"});
}

TEST(Product, NeedsTheWaitForReaders) {
  expect_noticed<Break::kWaitForEmpty>({"is under way", "read by"});
}

TEST(Product, NeedsTheArrivalOfReaders) {
  expect_noticed<Break::kArriveAtEmpty>({"for the end of phase 0, where 0 of 64 arrived"});
}

TEST(Product, NeedsTheArrivalOfEveryCopyingLane) {
  expect_noticed<Break::kOneCopiesArrive>(
      {"for the end of phase 0, where 31 of 32 arrived", "warp 2 lane 7 ended after a copy"});
}

TEST(Product, NeedsTheRightParity) {
  expect_noticed<Break::kParityOfFull>(
      {"is under way", "without a wait for the barrier of the copy", "read by", "can go on"});
}

TEST(Product, NeedsAllOfItsSharedMemory) {
  const Problem given = problem<bfloat16>(80, 40, 72);
  expect_error({"the block has 3088"},
               [&](const Mode& mode) { multiplied<bfloat16>(given, mode, product::kSharedBytes - 16); });
}

}  // namespace
}  // namespace longfold::simt
