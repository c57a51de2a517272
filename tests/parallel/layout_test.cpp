#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <vector>

#include "longfold/base/error.h"
#include "longfold/parallel/mesh.h"
#include "longfold/parallel/sequence_layout.h"

namespace longfold::parallel {
namespace {

// Every token is with one process, every process has as many.
TEST(SequenceLayout, HasEveryTokenOnce) {
  for (const int64_t length : {1, 2, 7, 64, 2999}) {
    for (const int64_t ring : {1, 2, 3, 4}) {
      for (const int64_t ulysses : {1, 2, 3, 4}) {
        const SequenceLayout layout(length, ring, ulysses);
        std::vector<int> seen(static_cast<size_t>(layout.padded_length()));
        for (int64_t position = 0; position < ring * ulysses; ++position) {
          int64_t count = 0;
          for (const Range& range : layout.ranges(position)) {
            count += range.count();
            for (int64_t i = range.begin; i < range.end; ++i) ++seen.at(static_cast<size_t>(i));
          }
          EXPECT_EQ(count, layout.local_length());
        }
        EXPECT_EQ(seen, std::vector<int>(seen.size(), 1)) << length << " " << ring << " " << ulysses;
        EXPECT_GE(layout.padded_length(), length);
        EXPECT_LT(layout.padded_length() - length, 2 * ring * ulysses);
      }
    }
  }
}

TEST(SequenceLayout, IsZigzagOverTheRingAndInOrderOverUlysses) {
  const SequenceLayout layout(16, 2, 2);
  EXPECT_EQ(layout.ranges(0), (std::vector<Range>{{0, 4}}));
  EXPECT_EQ(layout.ranges(1), (std::vector<Range>{{12, 16}}));
  EXPECT_EQ(layout.ranges(2), (std::vector<Range>{{4, 8}}));
  EXPECT_EQ(layout.ranges(3), (std::vector<Range>{{8, 12}}));
  EXPECT_EQ(SequenceLayout(12, 2, 1).ranges(1), (std::vector<Range>{{3, 6}, {6, 9}}));
  EXPECT_EQ(SequenceLayout(12, 1, 3).ranges(1), (std::vector<Range>{{4, 8}}));
}

TEST(SequenceLayout, CutsWhatBelongsToTokens) {
  const SequenceLayout layout(5, 2, 1);  // padded to 8: chunks of 2
  const at::Tensor x = at::arange(10).view({2, 5});
  EXPECT_TRUE(at::equal(layout.local(x, 0, -1), at::tensor({0, 1, -1, -1, 5, 6, -1, -1}).view({2, 4})));
  EXPECT_TRUE(at::equal(layout.local(x, 1, -1), at::tensor({2, 3, 4, -1, 7, 8, 9, -1}).view({2, 4})));
  EXPECT_TRUE(SequenceLayout(5, 1, 1).local(x, 0, -1).is_same(x));
}

TEST(Mesh, NeighboursDifferInTheLastAxis) {
  const Degrees degrees = degrees_for(24, 2, 3, 2);
  EXPECT_EQ(degrees, (Degrees{2, 2, 3, 2}));
  EXPECT_EQ(coordinate(degrees, 1, Axis::kTensor), 1);
  EXPECT_EQ(coordinate(degrees, 2, Axis::kUlysses), 1);
  EXPECT_EQ(coordinate(degrees, 6, Axis::kRing), 1);
  EXPECT_EQ(coordinate(degrees, 12, Axis::kData), 1);
  EXPECT_EQ(coordinate(degrees, 23, Axis::kUlysses), 2);
  EXPECT_THROW((void)degrees_for(6, 4, 1, 1), base::UserError);
}

}  // namespace
}  // namespace longfold::parallel
