#include "longfold/train/gradients.h"

#include <ATen/ATen.h>

#include <chrono>

#include "longfold/train/losses.h"

namespace longfold::train {

StepLosses add_gradients(const model::Transformer& model, std::span<const data::Batch> batches,
                         std::optional<uint64_t> dropout) {
  using Clock = std::chrono::steady_clock;
  at::Tensor num_labels = at::zeros({}, at::kFloat);
  for (const data::Batch& batch : batches) num_labels += batch.weights.sum();
  num_labels.clamp_min_(1e-6);  // weights of soft-masked labels may be small

  StepLosses result;
  MeanLoss mean, held_out;
  std::optional<model::DropoutKey> key;
  if (dropout) key = {.step = *dropout};
  for (const data::Batch& batch : batches) {
    const auto start = Clock::now();
    const at::Tensor losses = token_losses(model, batch, key);  // [B, S]
    if (key) key->first_row += batch.tokens.size(0);
    result.forward_seconds += std::chrono::duration<double>(Clock::now() - start).count();
    result.num_tokens += batch.tokens.numel();
    mean.add(losses, batch.weights);
    held_out.add(losses, batch.held_out_weights);
    ((losses * batch.weights).sum() / num_labels).backward();
  }
  result.loss = mean.mean();
  result.held_out_loss = held_out.mean();
  return result;
}

}  // namespace longfold::train
