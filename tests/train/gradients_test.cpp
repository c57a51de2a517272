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

// Records of those lengths, in which [UNK] comes now and then.
void write_records(const std::string& prefix, const std::vector<int64_t>& lengths) {
  data::TokenFileWriter writer(prefix, data::make_tokenizer("genslm69"));
  data::TokenFileInfo info{.sources = {}, .frame = "0", .counts = {}};
  uint32_t random = 7;
  for (const int64_t length : lengths) {
    std::vector<int32_t> tokens;
    for (int64_t i = 0; i < length; ++i) {
      random = random * 1664525 + 1013904223;
      tokens.push_back(random >> 29 == 0 ? 0 : static_cast<int32_t>(5 + (random >> 16) % 64));
    }
    writer.append(tokens);
    writer.end_sequence({.name = std::to_string(length)});
    info.counts.tokens += length;
  }
  writer.commit(info);
}

// Neither the padding behind a short record nor its neighbours in the row change anything.
TEST(Gradients, OnePackedWindowIsItsRecordsInTurn) {
  at::set_num_threads(1);
  const ScratchFolder folder;
  write_records(folder / "data", {10, 41, 1, 30, 2});
  const data::TokenFile file(folder / "data");
  const auto step = [&](const data::SamplerConfig& config, int64_t num_batches) {
    const data::Sampler sampler(file, config);
    std::vector<data::Batch> batches;
    for (int64_t i = 0; i < num_batches; ++i) batches.push_back(sampler.batch(i));
    const model::Transformer model = small_model();
    const MasterParameters parameters(model, at::kFloat);
    Step result{add_gradients(model, parameters, batches), {}};
    for (const at::Tensor& parameter : model->parameters()) result.gradients.push_back(parameter.grad());
    return result;
  };
  const Step packed = step({.sequence_length = 100, .pack = true}, 1);
  EXPECT_EQ(packed.losses.num_tokens, 100);
  const Step in_turn = step({}, 4);  // the record of one token has no label
  EXPECT_EQ(in_turn.losses.num_tokens, 83);
  EXPECT_NEAR(*packed.losses.loss, *in_turn.losses.loss, 1e-6 * *in_turn.losses.loss);
  for (size_t i = 0; i < packed.gradients.size(); ++i) {
    const double size = in_turn.gradients[i].norm().item<double>();
    EXPECT_LT((packed.gradients[i] - in_turn.gradients[i]).norm().item<double>(), 2e-6 * size + 1e-9) << i;
  }
}

// Not over tokens: those whose label is [UNK] or [PAD] are not counted.
TEST(Gradients, TheLossIsTheMeanOverLabelsThatCount) {
  at::set_num_threads(1);
  const ScratchFolder folder;
  write_records(folder / "data", {60});
  const data::TokenFile file(folder / "data");
  const at::Tensor tokens = file.tokens(0).unsqueeze(0);
  const model::Transformer model = small_model();
  const at::Tensor logits = model.ptr()->logits(tokens, at::arange(60).unsqueeze(0)).log_softmax(-1);
  double sum = 0;
  int64_t count = 0;
  for (int64_t i = 0; i + 1 < 60; ++i) {
    const auto label = tokens[0][i + 1].item<int64_t>();
    if (label == 0) continue;
    sum -= logits[0][i][label].item<double>();
    ++count;
  }
  ASSERT_LT(count, 59) << "[UNK] comes: else this shows nothing";
  const data::Sampler sampler(file, {});
  const std::vector<data::Batch> batches{sampler.batch(0)};
  const MasterParameters parameters(model, at::kFloat);
  EXPECT_NEAR(*add_gradients(model, parameters, batches).loss, sum / static_cast<double>(count), 1e-6);
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
