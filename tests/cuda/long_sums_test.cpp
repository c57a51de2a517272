// Sums over many rows, queries and keys keep their digits, those of the tiled kernels and of the plain ones.
#include <gtest/gtest.h>

#include "tests/cuda/cuda_solution.h"
#include "tests/kernels/long_sums.h"

namespace longfold::kernels::cuda {
namespace {

using cases::BiasKind;

constexpr int64_t kTiledHeadDim = 8, kPlainHeadDim = 7;  // that these kernels, and they alone, run in fp32

cases::EvoformerCase shape_of(int64_t N, int64_t Lq, int64_t Lk, int64_t D = kTiledHeadDim) {
  return shape_of_sums(N, Lq, Lk, D);
}

TEST(LongSums, PairGradientOfManyRows) {
  expect_sum_over_rows<float>(shape_of(300, 3, 5), 0.1, solve_on_cuda<float>);
  expect_sum_over_rows<bfloat16>(shape_of(300, 3, 5), 0.1, solve_on_cuda<bfloat16>);
  expect_sum_over_rows<float>(shape_of(1500, 3, 5), 0, solve_on_cuda<float>);
  expect_sum_over_rows<float>(shape_of(1500, 3, 5, kPlainHeadDim), 0, solve_on_cuda<float>);
  expect_sum_over_rows<float>(shape_of(1 << 18, 1, 2, 1), 0, solve_on_cuda<float>);
}

TEST(LongSums, OverQueries) {
  for (const int64_t Lq : {1024, 1100, 60000}) {
    for (const int64_t head_dim : {kTiledHeadDim, kPlainHeadDim})
      expect_sums_over_queries(Lq, 3, head_dim, solve_on_cuda<float>);
  }
  expect_sums_over_queries(1100, 20, 500, solve_on_cuda<float>);
}

TEST(LongSums, OverKeys) {
  for (const int64_t Lk : {1024, 1025, 100000}) {
    for (const int64_t head_dim : {kTiledHeadDim, kPlainHeadDim})
      expect_sums_over_keys(Lk, head_dim, solve_on_cuda<float>);
  }
}

// A maximum that grows now and then, so that long sums shrink on the way.
TEST(LongSums, OverKeysWithAGrowingMaximum) {
  for (const int64_t head_dim : {kTiledHeadDim, kPlainHeadDim}) {
    for (const double step : {0.004, 20.0}) {
      Problem problem = make_problem<float>({.name = "keys",
                                             .B = 1,
                                             .N = 1,
                                             .Lq = 70,
                                             .Lk = 20000,
                                             .H = 1,
                                             .D = head_dim,
                                             .biases = {{BiasKind::kMask}}});
      Numbers& mask = problem.bias(BiasKind::kMask);
      for (size_t j = 0; j < mask.size(); ++j) mask[j] = step * static_cast<double>(j) / (step < 1 ? 1.0 : 3000.0);
      round_to(DType::kFloat32, mask);
      EXPECT_EQ(check_on_cuda<float>(problem), "") << step;
    }
  }
}

// More rows than a grid has in its second and third dimension, and more than one step of one warp.
TEST(LongSums, MoreThan65535Rows) {
  EXPECT_EQ(check_on_cuda<float>(make_problem<float>(
                {.name = "rows", .B = 1, .N = 70000, .Lq = 2, .Lk = 3, .H = 1, .D = 4, .biases = {{BiasKind::kMask}}})),
            "");
}

}  // namespace
}  // namespace longfold::kernels::cuda
