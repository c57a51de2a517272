// Trains one model, on one device or on one for each of several processes, as a recipe says. Deterministic: the same
// recipe, data and threads give the same bits, whether or not the run was interrupted and resumed.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <optional>

#include "longfold/data/sampler.h"
#include "longfold/data/token_file.h"
#include "longfold/memory/meter.h"
#include "longfold/parallel/mesh.h"
#include "longfold/train/batches_ahead.h"
#include "longfold/train/checkpoint.h"
#include "longfold/train/divergence.h"
#include "longfold/train/evaluate.h"
#include "longfold/train/folder_lock.h"
#include "longfold/train/learner.h"
#include "longfold/train/metrics.h"
#include "longfold/train/pace.h"
#include "longfold/train/recipe.h"
#include "longfold/train/validation.h"

namespace longfold::train {

struct Events {
  std::function<void(const StepReport&)> step = [](const StepReport&) {};
  BatchProgress validating = [](int64_t, int64_t) {};  // windows done, of how many; 0 done: it begins
  std::function<void(int64_t step)> saving = [](int64_t) {};
  std::function<void(const std::filesystem::path&)> checkpoint = [](const std::filesystem::path&) {};
};

// With the parameters as they are now, in nats per token.
struct Evaluation {
  std::optional<double> loss;           // on what the last step trained on
  std::optional<double> held_out_loss;  // on all held-out labels
};

class Trainer {
 public:
  // Locks the output folder, opens the data, reads it all once to check its hash, and builds the model; begins anew.
  // UserError if another run has the folder, or the data is damaged or does not fit the recipe.
  // Each process of a mesh has a trainer; they do everything together, and the first one writes.
  Trainer(const Recipe& recipe, memory::MemoryMeter meter, parallel::Mesh mesh = {});

  // From the newest checkpoint in train.output; UserError if there is none or it does not fit. Returns what the recipe
  // changes about the run, in one line; "" for nothing.
  std::string resume();

  // To the end of the recipe, or until `stop` is set: the step under way is finished and saved. True at the end. The
  // output folder is free then.
  bool run(const Events& events, const std::atomic<bool>& stop);

  // Calls progress(windows done, of how many) after each.
  [[nodiscard]] Evaluation evaluate(const BatchProgress& progress = [](int64_t, int64_t) {});
  [[nodiscard]] int64_t num_held_out_windows() const { return sampler_.num_held_out_windows(); }
  [[nodiscard]] double evaluation_seconds() const;  // about; 0 before the first step

  [[nodiscard]] const Recipe& recipe() const { return recipe_; }  // with what "auto" chose, and the vocabulary's size
  [[nodiscard]] const memory::MemoryMeter& meter() const { return meter_; }  // of the device
  [[nodiscard]] const FolderLock* lock() const { return lock_.get(); }       // of the first process
  [[nodiscard]] const parallel::Mesh& mesh() const { return mesh_; }
  // Whether any process of the mesh does; all ask together.
  [[nodiscard]] bool any_wants(bool stop) const;
  [[nodiscard]] int64_t steps_done() const { return step_; }
  [[nodiscard]] int64_t steps_skipped() const { return skips_.total; }  // counting those before a resume
  [[nodiscard]] const std::optional<Best>& best() const { return best_; }
  [[nodiscard]] const data::TokenFile& data() const { return file_; }
  [[nodiscard]] const NamedTensors& parameters() const { return learner_->parameters().tensors(); }  // in fp32

 private:
  StepReport train_step(BatchesAhead& ahead);
  void update(StepReport& report);
  void skip_update(StepReport& report);
  void validate(StepReport& report, const Events& events) const;
  [[nodiscard]] bool take_for_best(const StepReport& report);
  void save(const Events& events);
  void remove_old() const;
  void check_finite(const Outcome& outcome);
  [[nodiscard]] bool is_first() const { return mesh_.rank() == 0; }
  void check_alike() const;

  Recipe recipe_;
  memory::MemoryMeter meter_;
  parallel::Mesh mesh_;
  std::unique_ptr<FolderLock> lock_;  // of the first process
  data::TokenFile file_;
  data::Sampler sampler_;
  std::unique_ptr<const Validation> validation_;  // null: there is none
  std::unique_ptr<Learner> learner_;
  std::optional<LossScale> loss_scale_;  // of fp16 alone
  int64_t step_ = 0;                     // done, counting those before a resume
  int64_t saved_step_ = 0;               // of the newest checkpoint
  int64_t first_step_ = 1;               // of this run
  std::optional<double> first_loss_;
  std::optional<Best> best_;
  Skips skips_;
  Pace pace_;
};

}  // namespace longfold::train
