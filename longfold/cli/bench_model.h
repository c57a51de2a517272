// A model with random weights and tokens, to take training steps with: what is measured is the trainer's own step.
#pragma once

#include <memory>

#include "longfold/memory/meter.h"
#include "longfold/train/dry_step.h"
#include "longfold/train/learner.h"
#include "longfold/train/recipe.h"

namespace longfold::cli {

inline constexpr int64_t kBenchVocabulary = 69;  // of genslm69

class BenchModel {
 public:
  // A row of `tokens`. [compute] is resolved here; model.vocab_size is set, learned positions are enough.
  BenchModel(train::Recipe recipe, int64_t tokens);

  double take_step();  // its loss; waits for a GPU

  [[nodiscard]] const train::Recipe& recipe() const { return recipe_; }
  [[nodiscard]] at::Device device() const { return device_; }
  [[nodiscard]] const memory::MemoryMeter& meter() const { return meter_; }
  [[nodiscard]] const train::StepMemory& planned() const { return planned_; }

 private:
  train::Recipe recipe_;
  at::Device device_;
  train::StepMemory planned_;
  memory::MemoryMeter meter_;
  std::unique_ptr<train::Learner> learner_;
  data::Batch batch_;
  int64_t steps_ = 0;
};

// The preset's model as BenchModel takes it.
[[nodiscard]] model::ModelConfig bench_config(const std::string& preset, int64_t tokens);

// FLOPs of a step by the usual convention: 6 for each parameter and token, 12 for each of a query's visible keys and
// dimension; what runs twice counts once.
[[nodiscard]] double step_flops(const model::ModelConfig& config, int64_t tokens);

}  // namespace longfold::cli
