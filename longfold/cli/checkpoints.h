// Trained models, as commands are given them.
#pragma once

#include <filesystem>
#include <string>

#include "longfold/data/tokenizer.h"
#include "longfold/model/transformer.h"
#include "longfold/train/checkpoint.h"
#include "longfold/train/recipe.h"

namespace longfold::cli {

// The checkpoint itself, or of a run's output folder the newest one, or the best. UserError if there is none.
[[nodiscard]] std::filesystem::path find_checkpoint(const std::filesystem::path& given, bool best = false);

// For base::AtomicFolder, with its parents made. UserError if something is there already.
[[nodiscard]] std::filesystem::path folder_to_make(const std::filesystem::path& given);

// UserError if the checkpoint does not say what its ids mean.
[[nodiscard]] data::Tokenizer tokenizer_of(const train::Manifest& manifest, const std::filesystem::path& checkpoint);

struct TrainedModel {
  train::Manifest manifest;
  train::Recipe recipe;
  model::Transformer model;
};
// The parameters are in fp32, whatever the run computed in, and on `device`, as compute.device; "": that of the run.
// recipe.compute says which engines compute: the run's own, or, on another device, those of "auto". UserError if the
// checkpoint is damaged, or the device is not here.
[[nodiscard]] TrainedModel load_trained_model(const std::filesystem::path& checkpoint,
                                              const std::string& device = "cpu");

}  // namespace longfold::cli
