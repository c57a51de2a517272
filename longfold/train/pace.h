// How long the rest of a run takes, as the steps so far went: the steps that are left, then the evaluation at the end,
// which is forward passes.
#pragma once

#include <cstdint>

namespace longfold::train {

class Pace {
 public:
  void add_step(double seconds, double forward_seconds, int64_t tokens) {
    ++steps_;
    seconds_ += seconds;
    forward_seconds_ += forward_seconds;
    tokens_ += tokens;
  }
  // Both 0 before the first step.
  [[nodiscard]] double for_steps(int64_t count) const {
    return steps_ > 0 ? seconds_ / static_cast<double>(steps_) * static_cast<double>(count) : 0;
  }
  [[nodiscard]] double for_forward(int64_t tokens) const {
    return tokens_ > 0 ? forward_seconds_ / static_cast<double>(tokens_) * static_cast<double>(tokens) : 0;
  }

 private:
  int64_t steps_ = 0, tokens_ = 0;
  double seconds_ = 0, forward_seconds_ = 0;
};

}  // namespace longfold::train
