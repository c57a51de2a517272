// Outputs and gradients with any set of techniques are those of the plain path.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "longfold/base/error.h"
#include "longfold/model/transformer.h"
#include "longfold/techniques/techniques.h"
#include "tests/model/small_models.h"
#include "tests/scratch.h"

namespace longfold::techniques {
namespace {

using model::Layers;
using model::ModelConfig;
using model::Transformer;

constexpr int64_t kRows = 2, kTokens = 23;

struct Result {
  at::Tensor losses;
  std::vector<std::pair<std::string, at::Tensor>> gradients;
};

// Of the second row the last labels do not count; `documents` end within chunks, at their ends, and after one token.
const std::vector<int64_t> kDocuments{0, 1, 13, 16, 23, 24, 46};

Result run(const ModelConfig& config, const Layers& layers, at::ScalarType dtype, bool packed) {
  Transformer transformer(config, layers);
  model::randomise(*transformer);
  transformer->to(dtype);
  at::manual_seed(3);
  const at::Tensor tokens = at::randint(config.vocab_size, {kRows, kTokens}, at::kLong);
  const at::Tensor labels = at::randint(config.vocab_size, {kRows, kTokens}, at::kLong);
  labels[1].narrow(0, 12, 11).fill_(model::kIgnoredLabel);
  const at::Tensor positions = at::arange(kTokens) + at::tensor({0, 9}).unsqueeze(1);
  const auto documents = packed ? std::optional(at::tensor(kDocuments, at::kLong)) : std::nullopt;
  const std::optional<model::DropoutKey> key = model::DropoutKey{.step = model::dropout_key(1, 2)};
  const at::Tensor losses = transformer->token_losses(tokens, labels, positions, documents, key);
  (losses * at::rand({kRows, kTokens})).sum().backward();
  Result result{losses.detach(), {}};
  for (const auto& entry : transformer->named_parameters()) {
    EXPECT_TRUE(entry.value().grad().defined()) << entry.key();
    if (entry.value().grad().defined()) result.gradients.emplace_back(entry.key(), entry.value().grad());
  }
  return result;
}

double distance(const Result& got, const Result& expected) {
  double largest = model::relative(got.losses, expected.losses);
  for (size_t i = 0; i < expected.gradients.size(); ++i) {
    const auto& [name, exact] = expected.gradients[i];
    if (exact.abs().max().item<double>() < 1e-10) continue;  // of a bias of keys, which nothing depends on
    largest = std::max(largest, model::relative(got.gradients.at(i).second.to(at::kDouble), exact.to(at::kDouble)));
  }
  return largest;
}

std::string describe(const MemoryConfig& config) {
  return config.attention + " checkpoint=" + config.checkpoint + " offload=" + config.offload +
         (config.tiled_mlp ? " tiled_mlp" : "") + (config.tiled_loss ? " tiled_loss" : "") +
         " chunked_attention=" + config.chunked_attention;
}

// All that validate() lets through.
std::vector<MemoryConfig> all_sets() {
  std::vector<MemoryConfig> sets;
  for (const char* attention : {"flash", "dense"})
    for (const char* checkpoint : {"none", "selective", "full", "every-2"})
      for (const char* offload : {"none", "file"})
        for (const bool tiled_mlp : {false, true})
          for (const bool tiled_loss : {false, true})
            for (const char* chunked : {"none", "device", "file"}) {
              MemoryConfig config;
              config.attention = attention, config.checkpoint = checkpoint, config.offload = offload;
              config.tiled_mlp = tiled_mlp, config.tiled_loss = tiled_loss, config.chunked_attention = chunked;
              config.tile_tokens = 7, config.chunk_tokens = 8;
              try {
                config.validate();
              } catch (const base::UserError&) {
                continue;
              }
              sets.push_back(config);
            }
  return sets;
}

struct Family {
  const char* name;
  const char* family;
  double dropout;
  bool packed;
};

class EveryTechnique : public testing::TestWithParam<Family> {
 protected:
  void SetUp() override { at::set_num_threads(1); }  // threads cost more than these tensors do
};

TEST_P(EveryTechnique, GivesThePlainPathsResults) {
  const Family& tested = GetParam();
  const ScratchFolder scratch;
  const ModelConfig config = model::of_family(tested.family, [&](ModelConfig& c) {
    c.num_layers = 3;
    c.dropout = tested.dropout;
    if (std::string(tested.family) == "llama") c.num_kv_heads = 2;
  });
  const Result exact = run(config, model::local_layers(), at::kDouble, tested.packed);
  for (const MemoryConfig& set : all_sets()) {
    const Layers layers = with_techniques(model::local_layers(), set, make_shelves(set, scratch.path().string()));
    EXPECT_LT(distance(run(config, layers, at::kDouble, tested.packed), exact), 1e-12) << describe(set);
    EXPECT_LT(distance(run(config, layers, at::kFloat, tested.packed), exact), 1e-5) << describe(set);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, EveryTechnique,
                         testing::Values(Family{"NeoX", "gpt-neox", 0, false},
                                         Family{"NeoXPacked", "gpt-neox", 0.2, true},
                                         Family{"Gpt2", "gpt2", 0.2, false}, Family{"Gpt2Packed", "gpt2", 0, true},
                                         Family{"Llama", "llama", 0, false}, Family{"LlamaPacked", "llama", 0, true}),
                         [](const auto& tested) { return std::string(tested.param.name); });

}  // namespace
}  // namespace longfold::techniques
