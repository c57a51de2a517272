#include "longfold/train/precision.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "longfold/base/error.h"
#include "longfold/train/gradients.h"
#include "longfold/train/optimizer.h"
#include "longfold/train/recipe.h"

namespace longfold::train {
namespace {

model::ModelConfig config_of(const std::string& family) {
  model::ModelConfig config = model::named_config("", family);
  config.vocab_size = 69;
  config.num_layers = 2;
  config.hidden_size = 64;
  config.num_heads = 4;
  if (family == "llama") config.num_kv_heads = 2;
  config.ffn_size = 128;
  config.init_std = 0.1;
  if (config.has_learned_positions()) config.max_positions = 512;
  return config;
}

model::Transformer model_of(const std::string& family) {
  model::Transformer model(config_of(family), model::local_layers({.linear = model::LinearEngine::kOnednn}));
  model->initialise(5);
  return model;
}

// Two documents a row.
data::Batch batch_of(int64_t num_rows, int64_t length, int64_t seed = 1) {
  at::manual_seed(static_cast<uint64_t>(seed));
  data::Batch batch;
  batch.tokens = at::randint(69, {num_rows, length}, at::kLong);
  batch.labels = at::randint(69, {num_rows, length}, at::kLong);
  batch.positions = at::arange(length, at::kLong).remainder(length / 2).expand({num_rows, length}).contiguous();
  batch.documents = at::arange(2 * num_rows + 1, at::kLong) * (length / 2);
  batch.weights = at::ones({num_rows, length});
  batch.held_out_weights = at::zeros({num_rows, length});
  return batch;
}

double distance(const at::Tensor& got, const at::Tensor& exact) {
  return ((got.to(at::kDouble) - exact).norm() / exact.norm()).item<double>();
}

at::Tensor gradient_of(const MasterParameters& parameters, const std::string& name) {
  return std::ranges::find(parameters.tensors(), name, &NamedTensor::name)->tensor.grad();
}

// The error of every gradient, relative to its norm, is a few roundings of the type: 2^-9 or 2^-12 each.
class MixedPrecision : public testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  void SetUp() override { at::set_num_threads(1); }
};

TEST_P(MixedPrecision, GradientsAreThoseOfFp64) {
  const auto& [family, dtype] = GetParam();
  const data::Batch batch = batch_of(2, 128);
  const model::Transformer exact = model_of(family);
  exact.ptr()->to(at::kDouble);
  exact.ptr()->token_losses(batch.tokens, batch.labels, batch.positions, batch.documents).mean().backward();
  const model::Transformer model = model_of(family);
  const MasterParameters parameters(model, compute_dtype(dtype));
  const StepLosses losses =
      add_gradients(model, parameters, std::vector{batch}, {.loss_scale = dtype == "fp16" ? 1024.0 : 1.0});
  EXPECT_TRUE(losses.loss);
  const double rounding = dtype == "bf16" ? 1.0 / 512 : 1.0 / 4096;
  double largest = 0;
  for (const auto& [name, parameter] : parameters.tensors()) {
    ASSERT_EQ(parameter.scalar_type(), at::kFloat) << name;
    ASSERT_EQ(parameter.grad().scalar_type(), at::kFloat) << name;
    const at::Tensor expected = exact->named_parameters()[name].grad();
    const double error = distance(parameter.grad(), expected);
    EXPECT_LT(error, 20 * rounding) << name;
    largest = std::max(largest, error);
  }
  EXPECT_GT(largest, rounding / 20) << "this was not computed in 16 bits";
}

INSTANTIATE_TEST_SUITE_P(FamiliesAndTypes, MixedPrecision,
                         testing::Combine(testing::Values("gpt-neox", "gpt2", "llama"),
                                          testing::Values("bf16", "fp16")));

TEST(Precision, TheModelHasRoundedCopiesAndTablesOfEmbeddingsAsTheyAre) {
  const model::Transformer model = model_of("gpt2");
  const MasterParameters parameters(model, at::kBFloat16);
  const auto own = model->named_parameters();
  for (const auto& [name, master] : parameters.tensors()) {
    const bool is_table = name.find("embed_") != std::string::npos;
    EXPECT_EQ(own[name].scalar_type(), is_table ? at::kFloat : at::kBFloat16) << name;
    EXPECT_EQ(own[name].is_same(master), is_table) << name;
    EXPECT_TRUE(at::equal(own[name], master.to(own[name].scalar_type()))) << name;
  }
}

// Of 4096 tokens that are all the same the table's row gets 4096 gradients. In bf16 the sum would stop at 256.
TEST(Precision, GradientsOfEmbeddingsAreSummedInFp32) {
  const model::Transformer model = model_of("gpt-neox");
  const MasterParameters parameters(model, at::kBFloat16);
  const at::Tensor tokens = at::zeros({1, 4096}, at::kLong);
  const at::Tensor x = model.ptr()->hidden(tokens, tokens);
  EXPECT_EQ(x.scalar_type(), at::kBFloat16);
  const at::Tensor table = model->named_parameters()["gpt_neox.embed_in.weight"];
  const at::Tensor rows = at::embedding(table, tokens).to(at::kBFloat16);
  rows.sum().backward();
  EXPECT_EQ(table.grad()[0][0].item<double>(), 4096);
}

// A parameter near 1 moves by 1e-4 a step: bf16 alone would never move, its next number is 1 / 128 away.
TEST(Precision, SmallUpdatesAddUp) {
  const model::Transformer model = model_of("gpt-neox");
  const MasterParameters parameters(model, at::kBFloat16);
  AdamW optimizer({.weight_decay = 0}, parameters.tensors(), parameters.rounded());
  const char* name = "gpt_neox.final_layer_norm.weight";
  const at::Tensor gain = model->named_parameters()[name];
  for (int64_t step = 1; step <= 100; ++step) {
    for (const auto& [key, master] : parameters.tensors()) master.mutable_grad() = at::ones_like(master);
    optimizer.update(step, 1e-4);
    if (step == 1) {
      EXPECT_EQ(gain[0].item<double>(), 1);
    }
  }
  EXPECT_NEAR(gain[0].item<double>(), 0.99, 1.0 / 256);
  EXPECT_LT(gain[0].item<double>(), 1);
}

TEST(Precision, SeveralBatchesAreSummedInFp32) {
  at::set_num_threads(1);
  const std::vector<data::Batch> batches(64, batch_of(1, 32));
  const auto gradient = [&](size_t count) {
    const model::Transformer model = model_of("llama");
    const MasterParameters parameters(model, at::kBFloat16);
    add_gradients(model, parameters, std::span(batches).first(count));
    return parameters.tensors()[3].tensor.grad().to(at::kDouble);
  };
  EXPECT_LT(distance(gradient(64), gradient(1)), 1.0 / 512);
}

// Gradients of a step with very many labels, which are below what fp16 has.
TEST(Precision, ALossScaleKeepsSmallGradients) {
  const data::Batch batch = batch_of(1, 256);
  const model::Transformer exact = model_of("gpt2");
  exact.ptr()->to(at::kDouble);
  exact.ptr()->token_losses(batch.tokens, batch.labels, batch.positions, batch.documents).mean().backward();
  const auto error = [&](double scale) {
    const model::Transformer model = model_of("gpt2");
    const MasterParameters parameters(model, at::kHalf);
    add_gradients(model, parameters, std::vector{batch}, {.loss_scale = scale});
    const char* name = "gpt_neox.layers.0.attention.dense.weight";
    return distance(gradient_of(parameters, name), exact->named_parameters()[name].grad());
  };
  EXPECT_LT(error(64), 0.005);
  EXPECT_GT(error(0x1p-14), 0.05);  // as if there were a million times as many
  EXPECT_FALSE(std::isfinite(error(1e9)));
}

TEST(LossScale, HalvesAtOnceAndDoublesAfter2000GoodSteps) {
  LossScale scale;
  scale.step(false);
  EXPECT_EQ(scale.scale, 32768);
  for (int i = 0; i < 1999; ++i) scale.step(true);
  EXPECT_EQ(scale.scale, 32768);
  scale.step(true);
  EXPECT_EQ(scale.scale, 65536);
  EXPECT_EQ(scale.good_steps, 0);
  for (int i = 0; i < 40; ++i) scale.step(false);
  EXPECT_TRUE(scale.is_least());
  EXPECT_EQ(scale.scale, 1);
}

TEST(Precision, TypesHaveNames) {
  EXPECT_EQ(compute_dtype("bf16"), at::kBFloat16);
  EXPECT_EQ(compute_dtype("fp16"), at::kHalf);
  EXPECT_EQ(compute_dtype("fp32"), at::kFloat);
  EXPECT_THROW((void)compute_dtype("float16"), base::UserError);
}

}  // namespace
}  // namespace longfold::train
