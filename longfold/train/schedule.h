// The learning rate of each step: a straight line up, then what the shape says down to the floor, which the last step
// reaches.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace longfold::train {

enum class ScheduleShape {
  kConstant,  // stays at the peak
  kLinear,
  kCosine,  // half a period
  kWsd,     // warm-up, stable, decay: at the peak, and a straight line down in the last decay_steps
};

struct Schedule {
  ScheduleShape shape = ScheduleShape::kCosine;
  double peak = 0;
  double floor = 0;
  int64_t warmup_steps = 0;
  int64_t num_steps = 0;
  int64_t decay_steps = 0;  // of kWsd
};

// `step` counts from 1 to num_steps.
[[nodiscard]] inline double learning_rate(const Schedule& schedule, int64_t step) {
  const auto [shape, peak, floor, warmup_steps, num_steps, decay_steps] = schedule;
  if (step < warmup_steps) return peak * static_cast<double>(step) / static_cast<double>(warmup_steps);
  if (shape == ScheduleShape::kConstant) return peak;
  if (step >= num_steps) return floor;
  const int64_t begin = shape == ScheduleShape::kWsd ? std::max(warmup_steps, num_steps - decay_steps) : warmup_steps;
  if (step <= begin) return peak;
  const double done = static_cast<double>(step - begin) / static_cast<double>(num_steps - begin);
  const bool is_cosine = shape == ScheduleShape::kCosine;
  return floor + (peak - floor) * (is_cosine ? 0.5 * (1 + std::cos(std::numbers::pi * done)) : 1 - done);
}

}  // namespace longfold::train
