#include "longfold/train/evaluate.h"

#include <ATen/core/grad_mode.h>

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
  MeanLoss mean;
  for (int64_t i = 0; i < split.num_batches; ++i) {
    const data::Batch batch = batch_on(device, tokens_of(split.batch(i), mesh));
    mean.add(token_losses(model, batch), batch.*split.weights);
    if (!device.is_cpu())
      (void)mean.num_labels();  // waits: progress is of what was computed, not of what was asked for
    progress(i + 1, split.num_batches);
  }
  mean.add_up(mesh.sharers());
  return mean;
}

}  // namespace longfold::train
