// A loss or gradient that is not a number ends a run. What to say then: what came, which checkpoint is still good, and
// the likely cause.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "longfold/base/error.h"

namespace longfold::train {

class Diverged : public base::RunError {
 public:
  using base::RunError::RunError;
};

// What one forward and backward pass gave. `step` is the one that it is part of; an evaluation after all steps is part
// of the one that would come next.
struct Outcome {
  int64_t step = 0;
  std::optional<double> loss = {}, held_out_loss = {};  // none if no label counts
  std::optional<double> grad_norm = {};                 // none in an evaluation
  std::optional<double> validation_loss = {};           // of an evaluation

  [[nodiscard]] bool is_finite() const;
};

// The run that it happened to.
struct RunSoFar {
  int64_t first_step = 1;            // 1 unless it was resumed
  std::optional<double> first_loss;  // of its first step
  int64_t vocab_size = 1;
  double learning_rate = 0;  // peak
  double init_std = 0;
  int64_t skipped_in_a_row = 0;
};

// After so many in a row no step is skipped: it is not the data, the parameters are lost.
inline constexpr int64_t kMostSkippedInARow = 10;

// One line. A checkpoint is good if the step after it went well: that of the step before `outcome.step` holds the very
// parameters that failed.
[[nodiscard]] std::string describe(const Outcome& outcome, const RunSoFar& run, const std::filesystem::path& output);

// "nan" whatever its sign, "inf", "-inf", or the number.
[[nodiscard]] std::string number_text(double value);

}  // namespace longfold::train
