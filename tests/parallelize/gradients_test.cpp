// Losses and gradients of a step that processes share are those of one process, in fp64, whatever the mesh.
#include "longfold/train/gradients.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "longfold/parallelize/layers.h"
#include "longfold/train/optimizer.h"
#include "tests/model/small_models.h"
#include "tests/parallel/test_world.h"

namespace longfold::parallelize {
namespace {

using parallel::Degrees;
using parallel::Mesh;

constexpr int64_t kTokens = 37;  // of no degree a multiple

data::Batch batch_of(int64_t rows, bool packed) {
  at::manual_seed(11);
  data::Batch batch;
  batch.tokens = at::randint(11, {rows, kTokens}, at::kLong);
  batch.labels = at::randint(11, {rows, kTokens}, at::kLong);
  batch.positions = at::arange(kTokens).expand({rows, kTokens}).contiguous();
  batch.weights = (at::rand({rows, kTokens}) > 0.3).to(at::kFloat);
  batch.weights[0].zero_();  // where rows are shared some processes have no label at all
  batch.held_out_weights = 1 - batch.weights;
  std::vector<int64_t> documents;
  for (int64_t row = 0; row < rows; ++row) {
    documents.push_back(row * kTokens);
    if (packed) documents.insert(documents.end(), {row * kTokens + 1, row * kTokens + 5 + row, row * kTokens + 30});
  }
  documents.push_back(rows * kTokens);
  batch.documents = at::tensor(documents, at::kLong);
  batch.packed = packed;
  return batch;
}

struct Result {
  train::StepLosses losses;
  std::vector<std::pair<std::string, at::Tensor>> gradients;
  double norm;
};

Result run(const model::ModelConfig& config, const data::Batch& batch, const Mesh& mesh) {
  model::Transformer transformer(config, across_processes(model::local_layers(), mesh));
  model::randomise(*transformer);
  transformer->to(at::kDouble);
  const train::MasterParameters parameters(transformer, at::kFloat);
  Result result;
  // In two batches, as train.accumulate has it.
  const std::vector<data::Batch> batches{batch, batch};
  result.losses = train::add_gradients(transformer, parameters, batches, {}, mesh);
  result.norm = train::gradient_norm(parameters.tensors());
  for (const auto& [name, tensor] : parameters.tensors()) result.gradients.emplace_back(name, tensor.grad());
  return result;
}

std::vector<Degrees> meshes(int64_t processes) {
  std::vector<Degrees> all;
  for (int64_t ring = 1; ring <= processes; ++ring) {
    for (int64_t ulysses = 1; ring * ulysses <= processes; ++ulysses) {
      if (processes % (ring * ulysses) == 0) all.push_back(parallel::degrees_for(processes, ring, ulysses, 1));
    }
  }
  return all;
}

void expect_as_in_one_process(const std::string& family, bool packed) {
  const model::ModelConfig config = model::of_family(family, [&](model::ModelConfig& c) {
    c.hidden_size = 192, c.num_heads = 24;
    if (family == "llama") c.num_kv_heads = 1;
  });
  for (const Degrees& degrees : meshes(parallel::test_world().size())) {
    const Mesh mesh(parallel::test_world(), degrees);
    const data::Batch batch = batch_of(2 * degrees.data, packed);
    const Result expected = run(config, batch, Mesh()), got = run(config, batch, mesh);
    const std::string name = family + (packed ? " packed" : "") + " data " + std::to_string(degrees.data) + " ring " +
                             std::to_string(degrees.ring) + " ulysses " + std::to_string(degrees.ulysses);
    EXPECT_NEAR(*got.losses.loss, *expected.losses.loss, 1e-12) << name;
    EXPECT_NEAR(*got.losses.held_out_loss, *expected.losses.held_out_loss, 1e-12) << name;
    EXPECT_NEAR(got.norm / expected.norm, 1, 1e-12) << name;
    EXPECT_EQ(got.losses.num_tokens, expected.losses.num_tokens);
    for (size_t i = 0; i < got.gradients.size(); ++i) {
      const auto& [parameter, exact] = expected.gradients[i];
      if (exact.abs().max().item<double>() < 1e-10) continue;  // of a bias of keys, which nothing depends on
      EXPECT_LT(model::relative(got.gradients[i].second, exact), 1e-11) << name << " " << parameter;
    }
  }
}

TEST(SharedStep, NeoX) {
  expect_as_in_one_process("gpt-neox", false);
}
TEST(SharedStep, NeoXPacked) {
  expect_as_in_one_process("gpt-neox", true);
}
TEST(SharedStep, Gpt2) {
  expect_as_in_one_process("gpt2", false);
}
TEST(SharedStep, Gpt2Packed) {
  expect_as_in_one_process("gpt2", true);
}
TEST(SharedStep, Llama) {
  expect_as_in_one_process("llama", false);
}
TEST(SharedStep, LlamaPacked) {
  expect_as_in_one_process("llama", true);
}

}  // namespace
}  // namespace longfold::parallelize
