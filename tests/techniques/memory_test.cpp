// What each technique leaves of a step's memory; and that a dry run counts what a step takes.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "longfold/memory/meter.h"
#include "longfold/model/transformer.h"
#include "longfold/techniques/techniques.h"
#include "tests/model/small_models.h"
#include "tests/scratch.h"

namespace longfold::techniques {
namespace {

using model::ModelConfig;

constexpr int64_t kTokens = 2048;

// The most that a forward and a backward pass take besides the parameters.
int64_t peak(const ModelConfig& config, const MemoryConfig& set, at::Device device, const std::string& folder) {
  const auto meter = device.is_meta() ? memory::MemoryMeter::dry() : memory::MemoryMeter::install();
  const model::Layers layers = model::local_layers({.device = device});
  model::Transformer transformer(
      config, with_techniques(layers, set, device.is_meta() ? make_dry_shelves(set) : make_shelves(set, folder)));
  const at::Tensor tokens = at::zeros({1, kTokens}, at::TensorOptions().dtype(at::kLong).device(device));
  const at::Tensor positions = at::arange(kTokens, at::kLong).unsqueeze(0).to(device);
  const int64_t before = meter.live();
  meter.reset_peak();
  transformer->token_losses(tokens, tokens, positions).sum().backward();
  return meter.peak() - before;
}

ModelConfig wide() {
  return model::of_family("gpt-neox", [](ModelConfig& c) {
    c.num_layers = 6, c.hidden_size = 64, c.num_heads = 2, c.ffn_size = 256, c.vocab_size = 500;
  });
}

TEST(DryRun, CountsWhatAStepTakes) {
  const ScratchFolder scratch;
  const std::string folder = scratch.path().string();
  for (const char* family : {"gpt-neox", "gpt2", "llama"}) {
    ModelConfig config = model::of_family(family, [](ModelConfig& c) { c.hidden_size = 96, c.ffn_size = 384; });
    if (config.has_learned_positions()) config.max_positions = kTokens;
    for (const char* checkpoint : {"none", "selective", "full", "every-2"}) {
      for (const bool tiled : {false, true}) {
        MemoryConfig set;
        set.checkpoint = checkpoint, set.tiled_mlp = set.tiled_loss = tiled, set.tile_tokens = 256;
        set.offload = tiled && set.checkpoint != "none" ? "file" : "none";
        set.chunk_tokens = 512, set.chunked_attention = tiled ? "file" : "none";
        const auto real = static_cast<double>(peak(config, set, at::kCPU, folder));
        const auto dry = static_cast<double>(peak(config, set, at::kMeta, folder));
        EXPECT_NEAR(dry / real, 1, 0.03) << family << " " << checkpoint << (tiled ? " tiled" : "");
      }
    }
  }
}

TEST(Techniques, TakeLessEach) {
  const ScratchFolder scratch;
  const std::string folder = scratch.path().string();
  MemoryConfig set;
  set.tile_tokens = 128, set.chunk_tokens = 256;
  std::vector<std::pair<std::string, int64_t>> steps;
  const auto measure = [&](const char* name) { steps.emplace_back(name, peak(wide(), set, at::kMeta, folder)); };
  set.attention = "dense";
  measure("dense");
  set.attention = "flash";
  measure("flash");
  set.checkpoint = "selective";
  measure("selective");
  set.checkpoint = "full";
  measure("full");
  set.tiled_loss = true;
  measure("tiled_loss");
  set.tiled_mlp = true;
  measure("tiled_mlp");
  set.chunked_attention = "device";
  measure("chunked_attention device");
  set.chunked_attention = "file";
  measure("chunked_attention file");
  set.offload = "file";
  measure("offload file");
  for (size_t i = 1; i < steps.size(); ++i) {
    EXPECT_LT(steps[i].second, steps[i - 1].second) << steps[i].first << " after " << steps[i - 1].first;
  }
}

}  // namespace
}  // namespace longfold::techniques
