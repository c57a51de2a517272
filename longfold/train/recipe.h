// A run is a recipe: a TOML file with the sections below, plus options given on the command line.
#pragma once

#include <c10/core/ScalarType.h>

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "longfold/base/fields.h"
#include "longfold/data/sampler.h"
#include "longfold/model/config.h"
#include "longfold/parallel/config.h"
#include "longfold/techniques/config.h"
#include "longfold/train/optimizer.h"
#include "longfold/train/schedule.h"

namespace longfold::train {

struct RunConfig {
  std::string output;
  int64_t steps = 100;
  int64_t tokens = 0;
  int64_t accumulate = 1;
  int64_t checkpoint_every = 0;
  int64_t keep_last = 0;
  int64_t keep_every = 0;
  std::string validation = "";
  int64_t validate_every = 0;
  int64_t validate_windows = 0;
  std::string on_nonfinite = "stop";
  bool tensorboard = false;
  int64_t seed = 0;
  std::string init_from = "";

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("output", self.output, "folder for checkpoints and metrics.jsonl");
    visit("steps", self.steps, "optimizer steps; the learning rate falls until the last");
    visit("tokens", self.tokens, "the same in tokens of windows, in place of steps");
    visit("accumulate", self.accumulate, "batches in a step, one after the other (gradient accumulation)");
    visit("checkpoint_every", self.checkpoint_every, "steps between checkpoints; 0 = only the last");
    visit("keep_last", self.keep_last, "how many of the newest checkpoints stay; 0 = all do");
    visit("keep_every", self.keep_every, "checkpoints of steps that this divides stay besides; 0 = none");
    visit("validation", self.validation, "prefix of a data set to look at while training; the best checkpoint stays");
    visit("validate_every", self.validate_every, "steps between looks at it; 0 = only after the last");
    visit("validate_windows", self.validate_windows, "windows of it in a look, the same ones each time; 0 = all");
    visit("on_nonfinite", self.on_nonfinite, "stop, or skip the update, where loss or gradient is not a number");
    visit("tensorboard", self.tensorboard, "writes TensorBoard's event files, to tensorboard/ in output");
    visit("seed", self.seed, "of the initial weights");
    visit("init_from", self.init_from, "checkpoint, or a run's folder, whose weights come in place of these");
  }
  void validate() const;
  friend bool operator==(const RunConfig&, const RunConfig&) = default;
};

struct ComputeConfig {
  std::string device = "cpu";
  std::string dtype = "fp32";
  std::string linear = "auto";
  std::string attention = "auto";
  bool deterministic = true;
  int64_t threads = 0;
  base::Bytes memory_limit;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("device", self.device, "cpu, cuda, or auto: cuda if there is a GPU");
    visit("dtype", self.dtype, "of the model: fp32, bf16 or fp16; parameters and moments are kept in fp32 besides");
    visit("linear", self.linear, "engine of matrix products: torch, onednn, or auto, the faster one on this CPU");
    visit("attention", self.attention,
          "engine of attention: auto; on a GPU cudnn, which auto takes where it can, or flash");
    visit("deterministic", self.deterministic, "the same bits run after run on a GPU; false is faster there");
    visit("threads", self.threads, "threads; 0 = one for each core; the last bits of a run depend on it");
    visit("memory_limit", self.memory_limit, "most that tensors may take, such as 2GiB; 0 = no limit");
  }
  void validate() const;
  friend bool operator==(const ComputeConfig&, const ComputeConfig&) = default;
};

struct Recipe {
  model::ModelConfig model;
  data::SamplerConfig data;
  OptimizerConfig optimizer;
  RunConfig train;
  ComputeConfig compute;
  techniques::MemoryConfig memory;
  parallel::ParallelConfig parallel;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("model", self.model, "");
    visit("data", self.data, "");
    visit("optimizer", self.optimizer, "");
    visit("train", self.train, "");
    visit("compute", self.compute, "");
    visit("memory", self.memory, "");
    visit("parallel", self.parallel, "");
  }
  void validate() const;
  friend bool operator==(const Recipe&, const Recipe&) = default;
};

// Reads the file, then sets the options ("optimizer.beta1", "0.9"), turns lengths in tokens into steps, then validates.
// With train.init_from the keys of [model] that are left out are those of that checkpoint.
// UserError that names file and key.
[[nodiscard]] Recipe read_recipe(const std::filesystem::path& path,
                                 std::span<const std::pair<std::string, std::string>> options);

// UserError that names the first key that a resumed run may not change: model, data (but for its path), train.seed and
// init_from, the number of windows in a step. How these are split into batches may change.
void check_same_run(const Recipe& recipe, const nlohmann::ordered_json& trained, const std::string& checkpoint);

// What the recipe changes, after step `done`, of what a resumed run may change and its results depend on: a line such
// as "train.steps was 6, now 8; the learning rate goes from 0 in step 6 to 1.5e-04 in step 7". "" if nothing.
[[nodiscard]] std::string describe_changes(const Recipe& recipe, const nlohmann::ordered_json& trained, int64_t done);

// compute.dtype: "fp32", "bf16" or "fp16"; UserError for anything else.
[[nodiscard]] at::ScalarType compute_dtype(std::string_view name);

[[nodiscard]] Schedule schedule_of(const Recipe& recipe);
[[nodiscard]] bool skips_nonfinite(const Recipe& recipe);

}  // namespace longfold::train
