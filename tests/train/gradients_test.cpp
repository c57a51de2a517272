#include "longfold/train/gradients.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>

#include "longfold/data/token_file.h"
#include "tests/scratch.h"

namespace longfold::train {
namespace {

model::Transformer small_model() {
  model::ModelConfig config;
  config.vocab_size = 69;
  config.num_layers = 2;
  config.hidden_size = 32;
  config.num_heads = 2;
  config.ffn_size = 64;
  config.init_std = 0.2;
  model::Transformer model(config);
  model->initialise(5);
  return model;
}

// Windows of 256 tokens, of which that many labels count: the others are [UNK].
void write_windows(const std::string& prefix, const std::vector<int64_t>& num_labels) {
  data::TokenFileWriter writer(prefix, data::make_tokenizer("genslm69"));
  data::TokenFileInfo info{.sources = {}, .frame = "0", .counts = {}};
  uint32_t random = 1;
  for (const int64_t count : num_labels) {
    std::vector<int32_t> tokens(256, 0);
    for (size_t i = 1; i <= static_cast<size_t>(count); ++i) {
      random = random * 1664525 + 1013904223;
      tokens[i] = static_cast<int32_t>(5 + (random >> 16) % 64);
    }
    writer.append(tokens);
    writer.end_sequence({.name = std::to_string(count)});
    info.counts.tokens += 256;
  }
  writer.commit(info);
}

struct Step {
  StepLosses losses;
  std::vector<at::Tensor> gradients;
};

Step step_of(const data::TokenFile& file, int64_t batch_size, int64_t num_batches) {
  const data::Sampler sampler(file, {.sequence_length = 256, .batch_size = batch_size});
  std::vector<data::Batch> batches;
  for (int64_t i = 0; i < num_batches; ++i) batches.push_back(sampler.batch(i));
  const model::Transformer model = small_model();
  const MasterParameters parameters(model, at::kFloat);
  Step step{add_gradients(model, parameters, batches), {}};
  for (const at::Tensor& parameter : model->parameters()) step.gradients.push_back(parameter.grad());
  return step;
}

// Each label counts once and alike, though the four windows have 255, 10, 0 and 128 of them.
TEST(Gradients, OneBatchOfFourIsFourOfOneAndTwoOfTwo) {
  at::set_num_threads(1);
  const ScratchFolder folder;
  write_windows(folder / "data", {255, 10, 0, 128});
  const data::TokenFile file(folder / "data");
  const Step whole = step_of(file, 4, 1);
  ASSERT_TRUE(whole.losses.loss);
  EXPECT_EQ(whole.losses.num_tokens, 4 * 256);
  for (const auto& [batch_size, num_batches] : {std::pair{1, 4}, std::pair{2, 2}}) {
    const Step parts = step_of(file, batch_size, num_batches);
    EXPECT_NEAR(*parts.losses.loss, *whole.losses.loss, 1e-6 * *whole.losses.loss);
    EXPECT_EQ(parts.losses.num_tokens, 4 * 256);
    for (size_t i = 0; i < whole.gradients.size(); ++i) {
      const double size = whole.gradients[i].norm().item<double>();
      EXPECT_LT((parts.gradients[i] - whole.gradients[i]).norm().item<double>(), 2e-6 * size + 1e-9) << i;
    }
  }
}

TEST(Gradients, NoLabelInAnyBatchGivesZeros) {
  at::set_num_threads(1);
  const ScratchFolder folder;
  write_windows(folder / "data", {0, 0});
  const Step step = step_of(data::TokenFile(folder / "data"), 1, 2);
  EXPECT_FALSE(step.losses.loss || step.losses.held_out_loss);
  for (const at::Tensor& gradient : step.gradients) EXPECT_EQ(gradient.abs().max().item<double>(), 0);
}

}  // namespace
}  // namespace longfold::train
