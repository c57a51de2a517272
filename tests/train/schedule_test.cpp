#include "longfold/train/schedule.h"

#include <gtest/gtest.h>

namespace longfold::train {
namespace {

TEST(Schedule, CornersAreExact) {
  const Schedule schedule{.peak = 1.0, .floor = 0.2, .warmup_steps = 4, .num_steps = 12};
  EXPECT_EQ(learning_rate(schedule, 1), 0.25);
  EXPECT_EQ(learning_rate(schedule, 4), 1.0);
  EXPECT_NEAR(learning_rate(schedule, 8), 0.6, 1e-12);  // half way down
  EXPECT_NEAR(learning_rate(schedule, 6), 0.2 + 0.8 * (1 + std::sqrt(0.5)) / 2, 1e-12);
  EXPECT_EQ(learning_rate(schedule, 12), 0.2);
  EXPECT_EQ(learning_rate(schedule, 13), 0.2);
}

TEST(Schedule, WithoutWarmUpBeginsBelowThePeak) {
  const Schedule schedule{.peak = 1.0, .floor = 0.0, .warmup_steps = 0, .num_steps = 2};
  EXPECT_NEAR(learning_rate(schedule, 1), 0.5, 1e-12);
  EXPECT_EQ(learning_rate(schedule, 2), 0.0);
}

TEST(Schedule, OnlyWarmUpEndsAtTheFloor) {
  const Schedule schedule{.peak = 1.0, .floor = 0.1, .warmup_steps = 1, .num_steps = 1};
  EXPECT_EQ(learning_rate(schedule, 1), 0.1);
}

TEST(Schedule, ConstantStaysAtThePeak) {
  const Schedule schedule{
      .shape = ScheduleShape::kConstant, .peak = 1.0, .floor = 0.1, .warmup_steps = 2, .num_steps = 10};
  EXPECT_EQ(learning_rate(schedule, 1), 0.5);
  for (const int64_t step : {2, 5, 10}) EXPECT_EQ(learning_rate(schedule, step), 1.0);
}

TEST(Schedule, LinearIsAStraightLine) {
  const Schedule schedule{
      .shape = ScheduleShape::kLinear, .peak = 1.0, .floor = 0.2, .warmup_steps = 2, .num_steps = 10};
  EXPECT_EQ(learning_rate(schedule, 2), 1.0);
  EXPECT_NEAR(learning_rate(schedule, 4), 0.8, 1e-12);
  EXPECT_NEAR(learning_rate(schedule, 6), 0.6, 1e-12);
  EXPECT_EQ(learning_rate(schedule, 10), 0.2);
}

TEST(Schedule, WsdFallsInItsLastSteps) {
  const Schedule schedule{
      .shape = ScheduleShape::kWsd, .peak = 1.0, .floor = 0.0, .warmup_steps = 2, .num_steps = 10, .decay_steps = 4};
  EXPECT_EQ(learning_rate(schedule, 1), 0.5);
  for (const int64_t step : {2, 4, 6}) EXPECT_EQ(learning_rate(schedule, step), 1.0);
  EXPECT_NEAR(learning_rate(schedule, 7), 0.75, 1e-12);
  EXPECT_NEAR(learning_rate(schedule, 9), 0.25, 1e-12);
  EXPECT_EQ(learning_rate(schedule, 10), 0.0);
}

}  // namespace
}  // namespace longfold::train
