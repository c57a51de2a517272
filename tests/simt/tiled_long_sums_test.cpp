// Sums over many rows, queries and keys keep their digits in the tiled kernels.
#include "tests/kernels/long_sums.h"
#include "tests/simt/tiled_solution.h"

namespace longfold::kernels::cuda::tiled {
namespace {

constexpr int64_t kHeadDim = 32;

Solution solve(const kernels::Problem& problem) {
  return solve_by_tiles<float>(problem).value();
}

bool are_built() {
  return solve_by_tiles<float>(make_problem<float>(shape_of_sums(1, 1, 1, kHeadDim))).has_value();
}

TEST(TiledLongSums, OverRows) {
  if (!are_built()) GTEST_SKIP() << "not built";
  expect_sum_over_rows<float>(shape_of_sums(100, 3, 5, kHeadDim), 0.1, solve);
  expect_sum_over_rows<float>(shape_of_sums(3000, 3, 5, kHeadDim), 0, solve);
}

TEST(TiledLongSums, OverQueries) {
  if (!are_built()) GTEST_SKIP() << "not built";
  for (const int64_t Lq : {1024, 1100, 20000}) expect_sums_over_queries(Lq, 3, kHeadDim, solve);
}

TEST(TiledLongSums, OverKeys) {
  if (!are_built()) GTEST_SKIP() << "not built";
  for (const int64_t Lk : {1024, 1025, 20000}) expect_sums_over_keys(Lk, kHeadDim, solve);
}

}  // namespace
}  // namespace longfold::kernels::cuda::tiled
