#include "longfold/train/dry_step.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "longfold/parallel/sequence_layout.h"
#include "longfold/parallelize/layers.h"
#include "longfold/train/gradients.h"
#include "longfold/train/learner.h"
#include "longfold/train/losses.h"

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

model::Layers dry_layers(const Recipe& recipe, const techniques::Shelves& shelves, const parallel::Mesh& mesh) {
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
  layers = parallelize::across_processes(std::move(layers), mesh);
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

// What a process takes of it (train/share.h).
data::Batch share_of_dry(const data::Batch& batch, int64_t rows, int64_t tokens, const parallel::Mesh& mesh) {
  if (mesh.all().is_alone()) return batch;
  const parallel::SequenceLayout layout(tokens, mesh.degrees().ring, mesh.degrees().ulysses);
  data::Batch share = dry_batch(rows, layout.local_length());
  share.documents = at::arange(rows + 1, at::kLong) * layout.padded_length();
  return share;
}

// What a GPU's step takes besides: cuBLAS's workspaces of two threads, and what torch's allocator holds between
// tensors, of their sum. Measured, with its segments growing (docs/results/reach-cuda-bf16-2026-12-01.md).
void add_overhead_of_gpu(StepMemory& step) {
  constexpr int64_t kWorkspaces = 64 << 20;
  constexpr double kShareFree = 0.025;
  const auto free = static_cast<int64_t>(kShareFree * static_cast<double>(step.device + kWorkspaces));
  step.by_term[static_cast<size_t>(Term::kWorkspaces)] += kWorkspaces;
  step.by_term[static_cast<size_t>(Term::kFree)] += free;
  step.device += kWorkspaces + free;
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
  const bool on_cpu = recipe.compute.device == "cpu";
  const auto mesh = parallel::Mesh::dry(recipe.parallel.degrees());
  const auto home = techniques::make_dry_home(recipe.memory.offload_optimizer, !on_cpu);
  techniques::Shelves shelves = techniques::make_dry_shelves(recipe.memory);
  if (recipe.memory.offload_parameters) {
    shelves.parameters = std::make_shared<techniques::ParameterStream>(home, at::kMeta);
  }
  StepMemory result;
  {
    Learner learner(recipe, dry_layers(recipe, shelves, mesh), home, shelves.parameters);
    count_gradients(learner.model());
    allocator.reset_peak();
    // The host reads the next step's batches meanwhile; on the CPU that is the same memory.
    std::vector<data::Batch> batches;
    for (int64_t i = 0; i < (on_cpu ? 2 * recipe.train.accumulate : 1); ++i)
      batches.push_back(dry_batch(mesh.degrees().data * rows, tokens));
    learner.begin_step(1, 0);
    for (int64_t i = 0; i < std::min<int64_t>(recipe.train.accumulate, 2); ++i) {
      const data::Batch batch = share_of_dry(batches.front(), rows, tokens, mesh);
      const at::Tensor losses = token_losses(learner.model(), batch, model::DropoutKey{});
      (losses * batch.weights).sum().backward();
      collect_gradients(learner.parameters());
    }
    sum_gradients(learner.parameters().tensors(), mesh.replicas());
    learner.update(1, 0, 0);
    result.device = allocator.peak() - before;
    result.by_term = allocator.at_peak();
    result.traffic = mesh.traffic();
    result.sent_by_ulysses = mesh.along(parallel::Axis::kUlysses).traffic().bytes_sent;
    result.sent_by_ring = mesh.along(parallel::Axis::kRing).traffic().bytes_sent;
    result.sent_for_gradients = mesh.replicas().traffic().bytes_sent;
  }
  if (!on_cpu) add_overhead_of_gpu(result);
  const auto add = [&](const std::string& place, int64_t bytes) {
    if (place == "host") result.on_host += bytes;
    if (place == "file") result.in_files += bytes;
    return place == "host" ? bytes : 0;
  };
  result.shelved = {.checkpoints = add(recipe.memory.offload, shelves.checkpoints->bytes()),
                    .chunks = add(recipe.memory.chunked_attention, shelves.chunks->bytes())};
  add(recipe.memory.offload_optimizer, home->bytes());
  return result;
}

int64_t longest_sequence(const Recipe& recipe, int64_t rows, int64_t limit, const Lengths& lengths,
                         const std::function<void(int64_t tokens)>& progress) {
  const auto fits = [&](int64_t steps) {
    if (progress) progress(steps * lengths.step);
    return dry_step(recipe, rows, steps * lengths.step).device <= limit;
  };
  int64_t good = 0, bad = 1;  // in steps
  while (bad * lengths.step <= lengths.most && fits(bad)) {
    good = bad;
    bad *= 2;
  }
  bad = std::min(bad, lengths.most / lengths.step + 1);
  while (bad - good > std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(good) * lengths.share))) {
    const int64_t middle = good + (bad - good) / 2;
    (fits(middle) ? good : bad) = middle;
  }
  return good * lengths.step;
}

}  // namespace longfold::train
