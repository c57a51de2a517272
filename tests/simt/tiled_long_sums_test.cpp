// Sums over many rows, queries and keys keep their digits in the tiled kernels.
#include "tests/kernels/long_sums.h"

#include "longfold/kernels/cuda/tiled/long_sum.cuh"
#include "tests/simt/simt.h"
#include "tests/simt/tiled_solution.h"

namespace longfold::kernels::cuda::tiled {
namespace {

constexpr int64_t kHeadDim = 32;

Solution solve(const kernels::Problem& problem) {
  return solve_by_tiles<float>(problem).value();
}

// As many as rows may be: where nothing was settled, the rest itself would lose digits.
TEST(TiledLongSums, OfMillionsOfTerms) {
  constexpr int kTerms = 1 << 22;
  constexpr float kTerm = 0.1f;
  LongSum sum;
  for (int term = 1; term <= kTerms; ++term) {
    sum.add(kTerm);
    if (term % kTermsToSettle == 0) sum.settle();
  }
  const double expected = double{kTerm} * kTerms;
  EXPECT_LE(std::abs(static_cast<double>(sum.value()) - expected), 0x1p-23 * expected);
}

// Sums that are no numbers stay what plain ones would be.
TEST(TiledLongSums, OfInfinityAndNaN) {
  LongSum sum;
  for (const float term : {1.0f, INFINITY, 2.0f}) sum.add(term);
  sum.settle();
  EXPECT_EQ(sum.value(), INFINITY);
  sum.add(-INFINITY);
  EXPECT_TRUE(std::isnan(sum.value()));
}

TEST(TiledLongSums, OfLanesKeepTheirRests) {
  simt::launch(1, simt::kLanes, 0, {}, [] {
    const LongSum all = sum_of_lanes<8>({.sum = 1, .rest = 0x1p-30f});
    EXPECT_EQ(all.sum, 8);
    EXPECT_EQ(all.rest, 0x1p-27f);
  });
}

TEST(TiledLongSums, OverRows) {
  expect_sum_over_rows<float>(shape_of_sums(40, 3, 5, kHeadDim), 0.1, solve);
  expect_sum_over_rows<float>(shape_of_sums(300, 3, 5, kHeadDim), 0, solve);
}

TEST(TiledLongSums, OverQueries) {
  for (const int64_t Lq : {1024, 1100}) expect_sums_over_queries(Lq, 3, kHeadDim, solve);
}

TEST(TiledLongSums, OverKeys) {
  for (const int64_t Lk : {1024, 1025}) expect_sums_over_keys(Lk, kHeadDim, solve);
}

}  // namespace
}  // namespace longfold::kernels::cuda::tiled
