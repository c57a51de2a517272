// The loss over a part of a data set: forward passes in a fixed order, no gradients.
#pragma once

#include <functional>

#include "longfold/data/sampler.h"
#include "longfold/model/transformer.h"
#include "longfold/parallel/mesh.h"
#include "longfold/train/losses.h"

namespace longfold::train {

// Batches, and which of their weights say what counts.
struct Split {
  int64_t num_batches = 0;
  std::function<data::Batch(int64_t)> batch = {};
  at::Tensor data::Batch::* weights = &data::Batch::weights;
};

// All refer to the sampler, which must outlive them.
// The end of each record that is never trained on, in order, one window a batch.
[[nodiscard]] Split held_out_part(const data::Sampler& sampler);
// What step `step` (0 for the first) trains on, `num_batches` a step.
[[nodiscard]] Split windows_of_step(const data::Sampler& sampler, int64_t step, int64_t num_batches);
// All that a sampler of batch size 1 trains on, each window once; `most` windows if that is less and not 0, drawn by
// the sampler's seed.
[[nodiscard]] Split all_windows(const data::Sampler& sampler, int64_t most = 0);

// Calls progress(batches done, of how many) after each.
using BatchProgress = std::function<void(int64_t, int64_t)>;
// Processes along data all do the same, those that share a sequence take their tokens of it.
[[nodiscard]] MeanLoss evaluate(const model::Transformer& model, const Split& split, const BatchProgress& progress,
                                const parallel::Mesh& mesh = {});

}  // namespace longfold::train
