#include "longfold/train/gradients.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <chrono>
#include <utility>

#include "longfold/train/device.h"
#include "longfold/train/losses.h"
#include "longfold/train/share.h"

namespace longfold::train {

StepLosses add_gradients(const model::Transformer& model, const MasterParameters& parameters,
                         std::span<const data::Batch> batches, const StepOptions& options, const parallel::Mesh& mesh) {
  using Clock = std::chrono::steady_clock;
  const at::Device device = model->parameters().front().device();
  at::Tensor num_labels = at::zeros({}, at::kFloat);
  for (const data::Batch& batch : batches) num_labels += batch.weights.sum();
  num_labels = num_labels.clamp_min_(1e-6).to(device);  // weights of soft-masked labels may be small

  StepLosses result;
  const auto begin = Clock::now();
  MeanLoss mean, held_out;
  std::optional<model::DropoutKey> key;
  if (options.dropout_key) key = {.step = *options.dropout_key};
  for (const data::Batch& read : batches) {
    const auto start = Clock::now();
    const Share share = share_of(read, mesh);
    const data::Batch batch = batch_on(device, share.batch);
    std::optional<model::DropoutKey> own_key = key;
    if (key) own_key->first_row += share.first_row;
    const at::Tensor losses = token_losses(model, batch, own_key);  // [B, S]
    if (key) key->first_row += read.tokens.size(0);
    mean.add(losses, batch.weights);
    held_out.add(losses, batch.held_out_weights);
    result.forward_seconds += std::chrono::duration<double>(Clock::now() - start).count();
    result.num_tokens += read.tokens.numel();
    ((losses * batch.weights).sum() * options.loss_scale / num_labels).backward();
    parameters.collect_gradients();
  }
  sum_gradients(parameters.tensors(), mesh.replicas());
  mean.add_up(mesh.replicas());
  held_out.add_up(mesh.replicas());
  if (options.loss_scale != 1) {
    const at::NoGradGuard no_grad;
    for (const auto& [name, parameter] : parameters.tensors()) parameter.mutable_grad().div_(options.loss_scale);
  }
  result.loss = mean.mean();
  result.held_out_loss = held_out.mean();
  // Nothing waited for a GPU before: of three products each that a step computes, a forward pass computes one.
  if (!device.is_cpu()) result.forward_seconds = std::chrono::duration<double>(Clock::now() - begin).count() / 3;
  return result;
}

void sum_gradients(const NamedTensors& parameters, const parallel::Communicator& processes) {
  if (processes.is_alone()) return;
  parallel::Pending before;
  for (const auto& [name, parameter] : parameters) {
    TORCH_CHECK(parameter.grad().defined(), "[sum_gradients] expected a gradient for ", name, ", got none");
    parallel::Pending next = processes.all_reduce(parameter.grad());
    before.wait();
    before = std::move(next);
  }
  before.wait();
}

}  // namespace longfold::train
