// Trains one model on one device, as a recipe says. Deterministic: the same recipe, data and threads give the same
// bits, whether or not the run was interrupted and resumed.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <optional>

#include "longfold/data/sampler.h"
#include "longfold/data/token_file.h"
#include "longfold/memory/meter.h"
#include "longfold/model/transformer.h"
#include "longfold/train/checkpoint.h"
#include "longfold/train/metrics.h"
#include "longfold/train/optimizer.h"
#include "longfold/train/recipe.h"

namespace longfold::train {

struct Events {
  std::function<void(const StepReport&)> step = [](const StepReport&) {};
  std::function<void(const std::filesystem::path&)> checkpoint = [](const std::filesystem::path&) {};
};

// With the parameters as they are now, in nats per token.
struct Evaluation {
  std::optional<double> loss;           // on what the last step trained on
  std::optional<double> held_out_loss;  // on all held-out labels
};

class Trainer {
 public:
  // Opens the data, reads it all once to check its hash, and builds the model; begins anew. UserError if the data is
  // damaged or does not fit the recipe.
  Trainer(const Recipe& recipe, memory::MemoryMeter meter);

  void resume();  // from the newest checkpoint in train.output; UserError if there is none or it does not fit

  // To the end of the recipe, or until `stop` is set: the step under way is finished and saved. True at the end.
  bool run(const Events& events, const std::atomic<bool>& stop);

  [[nodiscard]] Evaluation evaluate();

  [[nodiscard]] int64_t steps_done() const { return step_; }
  [[nodiscard]] const data::TokenFile& data() const { return file_; }
  [[nodiscard]] NamedTensors parameters() const;

 private:
  StepReport train_step();
  void save(const Events& events);
  [[nodiscard]] double seconds_left(double seconds);

  Recipe recipe_;
  memory::MemoryMeter meter_;
  data::TokenFile file_;
  data::Sampler sampler_;
  model::Transformer model_;
  AdamW optimizer_;
  int64_t step_ = 0;        // done, counting those before a resume
  int64_t saved_step_ = 0;  // of the newest checkpoint
  double seconds_ = 0;      // of this run's steps
  int64_t timed_steps_ = 0;
};

}  // namespace longfold::train
