// A checkpoint is a folder that is whole or not there:
//
//   OUTPUT/step-00000020/manifest.json           what it is: format, step, recipe, data, and of each tensor the global
//                                                 shape, dtype, file and CRC-32 of its bytes; its own CRC-32 last
//                        model.safetensors       the parameters, under the names of model/transformer.h
//                        optimizer.safetensors   both moments of each; empty where the weights were imported
//
// Batches are a pure function of (data.seed, step), so the step is the data cursor.
#pragma once

#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "longfold/train/named_tensors.h"
#include "longfold/train/precision.h"

namespace longfold::train {

// The checkpoint with the least loss on the validation data, of those so far.
struct Best {
  int64_t step = 0;
  double validation_loss = 0;
  std::string validation;  // what was evaluated: losses of other data are not compared with it
};

// Steps whose update was left out, as a loss or gradient was not a number.
struct Skips {
  int64_t total = 0;
  int64_t in_a_row = 0;  // up to now
};

// Everything but the tensors.
struct Manifest {
  int64_t step = 0;                          // steps done
  nlohmann::ordered_json recipe;             // every option, as resolved
  std::string tokenizer;                     // name
  std::string tokenizer_hash;                // of its table
  std::vector<std::string> vocabulary = {};  // its table
  std::string data_hash;                     // of the tokens
  std::optional<Best> best = {};
  Skips skips = {};
  std::optional<LossScale> loss_scale = {};  // of fp16 alone
  std::string imported_from = {};            // a folder of another program's; empty: of a run of ours
};

struct CheckpointTensors {
  NamedTensors model;
  NamedTensors optimizer;
};

// Writes OUTPUT/step-N; RunError, and nothing under that name, if the disk fails. Returns the folder.
std::filesystem::path save_checkpoint(const std::filesystem::path& output, const Manifest& manifest,
                                      const CheckpointTensors& tensors);

// The complete checkpoint with the highest step up to `last`, or nothing.
[[nodiscard]] std::optional<std::filesystem::path> latest_checkpoint(
    const std::filesystem::path& output, int64_t last = std::numeric_limits<int64_t>::max());

// `given` itself if it is a checkpoint, else the newest one in it. UserError if there is none.
[[nodiscard]] std::filesystem::path find_checkpoint(const std::filesystem::path& given);

// That which the newest one calls the best, or nothing. UserError if a manifest is damaged.
[[nodiscard]] std::optional<std::filesystem::path> best_checkpoint(const std::filesystem::path& output);

[[nodiscard]] std::filesystem::path checkpoint_path(const std::filesystem::path& output, int64_t step);

// Steps of the checkpoints in `output` that hold what save_checkpoint() wrote and nothing else.
[[nodiscard]] std::vector<int64_t> own_checkpoints(const std::filesystem::path& output);

// All throw UserError that names the file and, for tensors, the tensor: missing, unknown, damaged or of another shape.
[[nodiscard]] Manifest read_manifest(const std::filesystem::path& checkpoint);
void load_tensors(const std::filesystem::path& checkpoint, const CheckpointTensors& tensors);  // in place
void load_model(const std::filesystem::path& checkpoint, const NamedTensors& model);  // without the optimizer's

}  // namespace longfold::train
