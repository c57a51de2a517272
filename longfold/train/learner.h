// A model and what trains it, as a resolved recipe says: for the trainer, for benches and for dry runs.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "longfold/model/transformer.h"
#include "longfold/parallel/mesh.h"
#include "longfold/techniques/home.h"
#include "longfold/techniques/techniques.h"
#include "longfold/train/early_updates.h"
#include "longfold/train/optimizer.h"
#include "longfold/train/precision.h"
#include "longfold/train/recipe.h"

namespace longfold::train {

class Learner {
 public:
  // Parameters are initialised from train.seed, but for those of a dry run (layers on the meta device), and put on
  // compute.device, which a dry run does not need.
  Learner(const Recipe& recipe, const model::Layers& layers, std::shared_ptr<techniques::Home> home,
          const std::shared_ptr<techniques::ParameterStream>& stream = nullptr);
  Learner(const Learner&) = delete;
  Learner& operator=(const Learner&) = delete;

  // Before the gradients of a step are found (train/gradients.h). With memory.early_updates they are used up there.
  void begin_step(int64_t step, double learning_rate);
  [[nodiscard]] double gradient_norm() const;  // before update()
  // One update by AdamW, from gradients of that norm, no longer than optimizer.clip_norm. Frees them.
  void update(int64_t step, double learning_rate, double norm);
  void skip() { optimizer_.skip(); }  // in place of update()

  [[nodiscard]] const model::Transformer& model() const { return model_; }
  [[nodiscard]] const MasterParameters& parameters() const { return parameters_; }
  [[nodiscard]] NamedTensors optimizer_state() const { return optimizer_.state(); }

 private:
  double clip_norm_;
  model::Transformer model_;
  MasterParameters parameters_;
  AdamW optimizer_;
  std::optional<EarlyUpdates> early_;
};

// The same on this machine: makes the places where things wait, of which `shelved` says how much the host's shelves
// take (train/dry_step.h). `folder` is for files where memory.folder names none.
[[nodiscard]] std::unique_ptr<Learner> make_learner(const Recipe& recipe, const std::string& folder,
                                                    const techniques::HostBytes& shelved,
                                                    const parallel::Mesh& mesh = {});

}  // namespace longfold::train
