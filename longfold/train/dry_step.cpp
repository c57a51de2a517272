#include "longfold/train/dry_step.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "longfold/train/losses.h"
#include "longfold/train/optimizer.h"
#include "longfold/train/precision.h"

namespace longfold::train {
namespace {

using memory::Term;
using memory::TermScope;

// Attention whose memory is counted as such.
class CountedCore final : public model::AttentionCore {
 public:
  explicit CountedCore(model::SharedCore core) : core_(std::move(core)) {}
  [[nodiscard]] model::Attended forward(const model::Qkv& qkv, const model::Documents& documents,
                                        bool causal) const override {
    const TermScope scope(Term::kAttention);
    return core_->forward(qkv, documents, causal);
  }
  [[nodiscard]] model::Qkv backward(const at::Tensor& grad_out, const model::Qkv& qkv, const model::Attended& attended,
                                    const model::Documents& documents, bool causal) const override {
    const TermScope scope(Term::kAttention);
    return core_->backward(grad_out, qkv, attended, documents, causal);
  }

 private:
  model::SharedCore core_;
};

model::Layers dry_layers(const Recipe& recipe, const techniques::Shelves& shelves) {
  const ComputeConfig& compute = recipe.compute;
  const bool on_cpu = compute.device == "cpu";
  model::Layers layers =
      model::local_layers({.linear = model::linear_engine(compute.linear, compute_dtype(compute.dtype)),
                           .attention = on_cpu                         ? model::AttentionEngine::kLongfold
                                        : compute.attention == "flash" ? model::AttentionEngine::kFlash
                                                                       : model::AttentionEngine::kCudnn,
                           .repeatable = compute.deterministic,
                           .device = at::kMeta});
  const auto loss = layers.loss;
  layers.loss = [loss](const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& labels) {
    const TermScope scope(Term::kScores);
    return loss(hidden, head, labels);
  };
  layers = techniques::with_techniques(std::move(layers), recipe.memory, shelves);
  layers.attention = std::make_shared<CountedCore>(layers.attention);
  return layers;
}

data::Batch dry_batch(int64_t rows, int64_t tokens) {
  const TermScope scope(Term::kBatch);
  const auto empty = [&](at::ScalarType dtype) {
    return at::empty({rows, tokens}, at::TensorOptions().device(at::kMeta).dtype(dtype));
  };
  return {.tokens = empty(at::kLong),
          .labels = empty(at::kLong),
          .positions = empty(at::kLong),
          .documents = {},
          .weights = empty(at::kFloat),
          .held_out_weights = empty(at::kFloat)};
}

model::Transformer dry_model(const model::ModelConfig& config, const model::Layers& layers) {
  const TermScope scope(Term::kParameters);
  return model::Transformer(config, layers);
}

MasterParameters dry_parameters(const model::Transformer& transformer, const ComputeConfig& compute) {
  const TermScope scope(Term::kParameters);
  return {transformer, compute_dtype(compute.dtype), compute.device == "cpu" ? at::kCPU : at::kCUDA};
}

AdamW dry_optimizer(const Recipe& recipe, const MasterParameters& parameters) {
  const TermScope scope(Term::kOptimizer);
  return {recipe.optimizer, parameters.tensors(), parameters.rounded()};
}

void count_gradients(const model::Transformer& transformer) {
  for (const at::Tensor& parameter : transformer->parameters()) {
    parameter.register_hook([](const at::Tensor& grad) { memory::assign_term(grad, Term::kGradients); });
  }
}

void collect_gradients(const MasterParameters& parameters) {
  const TermScope scope(Term::kGradients);
  parameters.collect_gradients();
}

}  // namespace

StepMemory dry_step(const Recipe& recipe, int64_t rows, int64_t tokens) {
  auto& allocator = memory::DryAllocator::install();
  const int64_t before = allocator.live();
  const techniques::Shelves shelves = techniques::make_dry_shelves(recipe.memory);
  StepMemory result;
  {
    const model::Transformer transformer = dry_model(recipe.model, dry_layers(recipe, shelves));
    const MasterParameters parameters = dry_parameters(transformer, recipe.compute);
    const AdamW optimizer = dry_optimizer(recipe, parameters);
    count_gradients(transformer);
    allocator.reset_peak();
    const bool on_cpu = recipe.compute.device == "cpu";
    // The host reads the next step's batches meanwhile; on the CPU that is the same memory.
    std::vector<data::Batch> batches;
    for (int64_t i = 0; i < (on_cpu ? 2 * recipe.train.accumulate : 1); ++i) batches.push_back(dry_batch(rows, tokens));
    for (int64_t i = 0; i < std::min<int64_t>(recipe.train.accumulate, 2); ++i) {
      const data::Batch& batch = batches.front();
      const at::Tensor losses = token_losses(transformer, batch, model::DropoutKey{});
      (losses * batch.weights).sum().backward();
      collect_gradients(parameters);
    }
    result.device = allocator.peak() - before;
    result.by_term = allocator.at_peak();
  }
  const auto bytes = [&](const std::string& place, const char* wanted,
                         const std::shared_ptr<techniques::Shelf>& shelf) {
    return place == wanted ? shelf->bytes() : 0;
  };
  result.on_host = {bytes(recipe.memory.offload, "host", shelves.checkpoints),
                    bytes(recipe.memory.chunked_attention, "host", shelves.chunks)};
  result.in_files = bytes(recipe.memory.offload, "file", shelves.checkpoints) +
                    bytes(recipe.memory.chunked_attention, "file", shelves.chunks);
  return result;
}

int64_t longest_sequence(const Recipe& recipe, int64_t rows, int64_t limit, int64_t step, int64_t most,
                         const std::function<void(int64_t tokens)>& progress) {
  const auto fits = [&](int64_t steps) {
    if (progress) progress(steps * step);
    return dry_step(recipe, rows, steps * step).device <= limit;
  };
  int64_t good = 0, bad = 1;  // in steps
  while (bad * step <= most && fits(bad)) {
    good = bad;
    bad *= 2;
  }
  bad = std::min(bad, most / step + 1);
  while (bad - good > 1) {
    const int64_t middle = good + (bad - good) / 2;
    (fits(middle) ? good : bad) = middle;
  }
  return good * step;
}

}  // namespace longfold::train
