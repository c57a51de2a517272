// On a GPU: gradients with any set of techniques are as near to those in fp64 as the plain path's.
#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "longfold/base/error.h"
#include "longfold/model/transformer.h"
#include "longfold/techniques/techniques.h"
#include "tests/model/small_models.h"
#include "tests/scratch.h"

namespace longfold::techniques {
namespace {

constexpr int64_t kTokens = 700;

// Loss, then gradients, on the CPU in fp64.
std::vector<at::Tensor> run(const model::ModelConfig& config, const model::Layers& layers, at::Device device) {
  model::Transformer transformer(config, layers);
  model::randomise(*transformer);
  if (device.is_cpu()) {
    transformer->to(at::kDouble);
  } else {
    transformer->to(device);
    transformer->compute_in(at::kBFloat16);
  }
  at::manual_seed(3);
  const at::Tensor tokens = at::randint(config.vocab_size, {2, kTokens}, at::kLong).to(device);
  const at::Tensor labels = at::randint(config.vocab_size, {2, kTokens}, at::kLong).to(device);
  const at::Tensor positions = at::arange(kTokens).expand({2, kTokens}).contiguous().to(device);
  const at::Tensor loss = transformer->token_losses(tokens, labels, positions).mean();
  loss.backward();
  std::vector<at::Tensor> results{loss.detach()};
  for (const at::Tensor& parameter : transformer->parameters()) results.push_back(parameter.grad());
  for (at::Tensor& result : results) result = result.cpu().to(at::kDouble);
  return results;
}

// The largest error of a gradient, in units of its norm.
double error(const std::vector<at::Tensor>& got, const std::vector<at::Tensor>& exact) {
  double largest = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    const double norm = exact[i].norm().item<double>();
    if (norm > 1e-6) largest = std::max(largest, (got[i] - exact[i]).norm().item<double>() / norm);
  }
  return largest;
}

std::vector<MemoryConfig> sets() {
  std::vector<MemoryConfig> all;
  for (const char* checkpoint : {"none", "selective", "full", "every-2"})
    for (const char* offload : {"none", "host", "file"})
      for (const bool tiled : {false, true})
        for (const char* chunked : {"none", "device", "host", "file"}) {
          MemoryConfig set;
          set.checkpoint = checkpoint, set.offload = offload, set.chunked_attention = chunked;
          set.tiled_mlp = set.tiled_loss = tiled;
          set.tile_tokens = 96, set.chunk_tokens = 256;
          if (set.checkpoint == "none" && set.offload != "none") continue;
          all.push_back(set);
        }
  return all;
}

class TechniquesOnAGpu : public testing::TestWithParam<model::AttentionEngine> {};

TEST_P(TechniquesOnAGpu, AreAsNearToFp64AsThePlainPath) {
  if (!at::hasCUDA()) GTEST_SKIP() << "no GPU";
  const ScratchFolder scratch;
  for (const char* family : {"gpt-neox", "llama"}) {
    const model::ModelConfig config = model::of_family(family, [](model::ModelConfig& c) {
      c.num_layers = 3, c.hidden_size = 128, c.num_heads = 2, c.ffn_size = 256;
    });
    const std::vector<at::Tensor> exact = run(config, model::local_layers(), at::kCPU);
    const model::Layers on_gpu = model::local_layers({.attention = GetParam()});
    const double plain = error(run(config, on_gpu, at::kCUDA), exact);
    EXPECT_LT(plain, 0.1) << family;
    for (const MemoryConfig& set : sets()) {
      const auto shelves = make_shelves(set, scratch.path().string(), {16 << 20, 16 << 20});
      const std::string name = std::string(family) + " " + set.checkpoint + " " + set.offload + " " +
                               set.chunked_attention + (set.tiled_mlp ? " tiled" : "");
      const std::vector<at::Tensor> got = run(config, with_techniques(on_gpu, set, shelves), at::kCUDA);
      EXPECT_LT(error(got, exact), 2 * plain) << name;
      if (set.chunked_attention != "host") continue;
      const std::vector<at::Tensor> again = run(config, with_techniques(on_gpu, set, shelves), at::kCUDA);
      for (size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(at::equal(got[i], again[i])) << name << " " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Engines, TechniquesOnAGpu,
                         testing::Values(model::AttentionEngine::kCudnn, model::AttentionEngine::kFlash),
                         [](const auto& tested) { return to_string(tested.param); });

}  // namespace
}  // namespace longfold::techniques
