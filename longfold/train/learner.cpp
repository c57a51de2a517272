#include "longfold/train/learner.h"

#include <utility>

#include "longfold/memory/dry_run.h"
#include "longfold/parallelize/layers.h"
#include "longfold/train/device.h"

namespace longfold::train {
namespace {

using memory::Term;
using memory::TermScope;

model::Transformer make_model(const Recipe& recipe, const model::Layers& layers) {
  const TermScope scope(Term::kParameters);
  model::Transformer model(recipe.model, layers);
  if (!layers.device.is_meta()) model->initialise(static_cast<uint64_t>(recipe.train.seed));
  return model;
}

MasterParameters make_parameters(const model::Transformer& model, const Recipe& recipe, techniques::Home& home,
                                 techniques::ParameterStream* stream) {
  const TermScope scope(Term::kParameters);
  const bool on_cpu = recipe.compute.device == "cpu", is_dry = model->parameters().front().is_meta();
  const at::Device device = is_dry ? at::Device(on_cpu ? at::kCPU : at::kCUDA) : compute_device(recipe.compute.device);
  return {model, compute_dtype(recipe.compute.dtype), device, &home, stream};
}

AdamW make_optimizer(const Recipe& recipe, const MasterParameters& parameters, std::shared_ptr<techniques::Home> home) {
  const TermScope scope(Term::kOptimizer);
  return {recipe.optimizer, parameters.tensors(), parameters.rounded(), std::move(home)};
}

}  // namespace

Learner::Learner(const Recipe& recipe, const model::Layers& layers, std::shared_ptr<techniques::Home> home,
                 const std::shared_ptr<techniques::ParameterStream>& stream)
    : clip_norm_(recipe.optimizer.clip_norm),
      model_(make_model(recipe, layers)),
      parameters_(make_parameters(model_, recipe, *home, stream.get())),
      optimizer_(make_optimizer(recipe, parameters_, home)) {
  if (recipe.memory.early_updates) early_.emplace(model_, parameters_, optimizer_);
}

void Learner::begin_step(int64_t step, double learning_rate) {
  if (early_) early_->begin(step, learning_rate);
}

double Learner::gradient_norm() const {
  return early_ ? early_->norm() : train::gradient_norm(parameters_.tensors());
}

void Learner::update(int64_t step, double learning_rate, double norm) {
  if (early_) return early_->end();
  const TermScope scope(Term::kOptimizer);
  optimizer_.update(step, learning_rate, clip_factor(norm, clip_norm_));
}

std::unique_ptr<Learner> make_learner(const Recipe& recipe, const std::string& folder,
                                      const techniques::HostBytes& shelved, const parallel::Mesh& mesh) {
  const at::Device device = compute_device(recipe.compute.device);
  const std::string& files = recipe.memory.folder.empty() ? folder : recipe.memory.folder;
  const auto home = techniques::make_home(recipe.memory.offload_optimizer, files, device);
  auto shelves = techniques::make_shelves(recipe.memory, folder, shelved);
  if (recipe.memory.offload_parameters)
    shelves.parameters = std::make_shared<techniques::ParameterStream>(home, device);
  model::Layers layers = model::local_layers(engines_of(recipe.compute));
  layers = techniques::with_techniques(std::move(layers), recipe.memory, shelves);
  layers = parallelize::across_processes(std::move(layers), mesh);
  return std::make_unique<Learner>(recipe, layers, home, shelves.parameters);
}

}  // namespace longfold::train
