#include "longfold/train/evaluate.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>

#include "longfold/train/device.h"
#include "longfold/train/share.h"

namespace longfold::train {

Split held_out_part(const data::Sampler& sampler) {
  return {.num_batches = sampler.num_held_out_windows(),
          .batch = [&sampler](int64_t i) { return sampler.held_out_window(i); },
          .weights = &data::Batch::held_out_weights};
}

Split windows_of_step(const data::Sampler& sampler, int64_t step, int64_t num_batches) {
  return {.num_batches = num_batches,
          .batch = [&sampler, step, num_batches](int64_t i) { return sampler.batch(step * num_batches + i); }};
}

Split all_windows(const data::Sampler& sampler, int64_t most) {
  const int64_t count = sampler.num_windows();
  return {.num_batches = most > 0 ? std::min(most, count) : count,
          .batch = [&sampler](int64_t i) { return sampler.batch(i); }};
}

MeanLoss evaluate(const model::Transformer& model, const Split& split, const BatchProgress& progress,
                  const parallel::Mesh& mesh) {
  const at::NoGradGuard no_grad;
  const at::Device device = model->parameters().front().device();
  const int64_t data = mesh.degrees().data, own = mesh.at(parallel::Axis::kData);
  MeanLoss mean;
  for (int64_t i = 0; i < split.num_batches; ++i) {
    // Along data processes take their rows of a batch, or, of those that they cannot share, one after the other.
    const data::Batch read = split.batch(i);
    const bool is_shared = read.tokens.size(0) % data == 0;
    const data::Batch batch = batch_on(device, is_shared ? share_of(read, mesh).batch : tokens_of(read, mesh));
    const auto weights = batch.*split.weights;
    if (is_shared || i % data == own) {
      mean.add(token_losses(model, batch), weights);
    } else {
      mean.add(at::zeros_like(weights), at::zeros_like(weights));
    }
    if (!device.is_cpu())
      (void)mean.num_labels();  // waits: progress is of what was computed, not of what was asked for
    progress(i + 1, split.num_batches);
  }
  mean.add_up(mesh.replicas());
  return mean;
}

}  // namespace longfold::train
