#include "longfold/train/pace.h"

#include <gtest/gtest.h>

namespace longfold::train {
namespace {

TEST(Pace, MeansOverTheStepsSoFar) {
  Pace pace;
  EXPECT_EQ(pace.for_steps(3), 0);
  EXPECT_EQ(pace.for_forward(100), 0);
  pace.add_step(/*seconds=*/4, /*forward_seconds=*/1, /*tokens=*/100);
  pace.add_step(/*seconds=*/2, /*forward_seconds=*/1, /*tokens=*/100);
  EXPECT_EQ(pace.for_steps(10), 30);
  EXPECT_EQ(pace.for_steps(0), 0);
  EXPECT_EQ(pace.for_forward(1000), 10);
}

}  // namespace
}  // namespace longfold::train
