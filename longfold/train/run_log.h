// What a run writes down of each step: metrics.jsonl, and TensorBoard's event files where the recipe asks for them.
#pragma once

#include <optional>

#include "longfold/train/event_file.h"
#include "longfold/train/metrics.h"
#include "longfold/train/recipe.h"

namespace longfold::train {

class RunLog {
 public:
  // Goes on after step `done`; 0 begins anew.
  RunLog(const RunConfig& config, int64_t done);
  void write(const StepReport& report);
  void flush();  // to the disk

 private:
  MetricsFile metrics_;
  std::optional<EventFile> events_;
};

}  // namespace longfold::train
