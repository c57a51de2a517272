// The learning rate of each step: a straight line up, then half a cosine down to the floor, which the last step
// reaches.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

namespace longfold::train {

struct Schedule {
  double peak = 0;
  double floor = 0;
  int64_t warmup_steps = 0;
  int64_t num_steps = 0;
};

// `step` counts from 1 to num_steps.
[[nodiscard]] inline double learning_rate(const Schedule& schedule, int64_t step) {
  const auto [peak, floor, warmup_steps, num_steps] = schedule;
  if (step < warmup_steps) return peak * static_cast<double>(step) / static_cast<double>(warmup_steps);
  if (step >= num_steps) return floor;
  if (step == warmup_steps) return peak;
  const double done = static_cast<double>(step - warmup_steps) / static_cast<double>(num_steps - warmup_steps);
  return floor + (peak - floor) * 0.5 * (1 + std::cos(std::numbers::pi * done));
}

}  // namespace longfold::train
