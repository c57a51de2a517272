#include "longfold/cli/bench_model.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/CUDAHooksInterface.h>

#include <filesystem>

#include "longfold/train/device.h"
#include "longfold/train/gradients.h"
#include "longfold/train/plan.h"
#include "longfold/train/processes.h"

namespace longfold::cli {
namespace {

train::Recipe resolved(train::Recipe recipe, int64_t tokens) {
  recipe.data.sequence_length = tokens;
  if (recipe.model.vocab_size == 0) recipe.model.vocab_size = kBenchVocabulary;
  if (recipe.model.has_learned_positions()) recipe.model.max_positions = std::max(recipe.model.max_positions, tokens);
  recipe.compute.validate();
  recipe.memory.validate();
  train::resolve(recipe);
  train::resolve_processes(recipe, 1);
  train::choose_techniques(recipe, 1, tokens, train::limit_of(recipe.compute));
  if (recipe.memory.early_updates) recipe.optimizer.clip_norm = 0;
  return recipe;
}

data::Batch random_batch(int64_t vocabulary, int64_t tokens) {
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(1);
  data::Batch batch;
  batch.tokens = at::randint(vocabulary, {1, tokens}, generator, at::kLong);
  batch.labels = at::randint(vocabulary, {1, tokens}, generator, at::kLong);
  batch.positions = at::arange(tokens, at::kLong).unsqueeze(0);
  batch.weights = at::ones({1, tokens}, at::kFloat);
  batch.held_out_weights = at::zeros({1, tokens}, at::kFloat);
  batch.documents = at::arange(2, at::kLong) * tokens;
  return batch;
}

}  // namespace

BenchModel::BenchModel(train::Recipe recipe, int64_t tokens)
    : recipe_(resolved(std::move(recipe), tokens)),
      device_(train::compute_device(recipe_.compute.device)),
      planned_(train::dry_step(recipe_, 1, tokens)),
      meter_(device_.is_cpu() ? memory::MemoryMeter::install() : memory::MemoryMeter::on_gpu(device_)),
      learner_(train::make_learner(recipe_, std::filesystem::temp_directory_path().string(), planned_.shelved)),
      batch_(random_batch(recipe_.model.vocab_size, tokens)) {
  if (device_.is_cpu()) meter_.set_limit(recipe_.compute.memory_limit);
}

double BenchModel::take_step() {
  constexpr double kRate = 1e-4;
  learner_->begin_step(++steps_, kRate);
  const train::StepLosses result = train::add_gradients(learner_->model(), learner_->parameters(), {&batch_, 1});
  learner_->update(steps_, kRate, learner_->gradient_norm());
  if (!device_.is_cpu()) at::detail::getCUDAHooks().deviceSynchronize(device_.index());
  return result.loss.value();
}

model::ModelConfig bench_config(const std::string& preset, int64_t tokens) {
  model::ModelConfig config = model::named_config(preset, "");
  config.vocab_size = kBenchVocabulary;
  if (config.has_learned_positions()) config.max_positions = tokens;
  return config;
}

double step_flops(const model::ModelConfig& config, int64_t tokens) {
  const auto S = static_cast<double>(tokens), wide = static_cast<double>(config.head_size() * config.num_heads);
  return S * (6 * static_cast<double>(config.num_parameters()) + 6 * static_cast<double>(config.num_layers) * wide * S);
}

}  // namespace longfold::cli
