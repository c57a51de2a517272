#include "longfold/model/config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "longfold/base/error.h"
#include "longfold/base/fields.h"

namespace longfold::model {
namespace {

std::string refusal(const std::function<void(ModelConfig&)>& change) {
  ModelConfig config;
  change(config);
  try {
    config.validate();
  } catch (const base::UserError& error) {
    return error.what();
  }
  return "fine";
}

TEST(ModelConfig, RefusesWhatCannotBeAndNamesTheKey) {
  EXPECT_EQ(refusal([](ModelConfig&) {}), "fine");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.hidden_size = 100; }),
            "model.hidden_size 100 is not divisible by model.num_heads 8");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.hidden_size = 80, c.rotary_pct = 0.5; }),
            "model.rotary_pct 0.5 of a head of 10 turns 5 dimensions, expected an even number");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.num_layers = 0; }), "model.num_layers is 0, expected at least 1");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.vocab_size = -3; }),
            "model.vocab_size is -3, expected at least 1, or 0 for as many as the tokenizer has");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.num_heads = 0; }), "model.num_heads is 0, expected at least 1");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.ffn_size = 0; }), "model.ffn_size is 0, expected at least 1");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.rotary_pct = 1.5; }), "model.rotary_pct is 1.5, expected 0 to 1");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.rotary_pct = NAN; }), "model.rotary_pct is nan, expected 0 to 1");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.rotary_base = 0; }), "model.rotary_base is 0.0, expected more than 0");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.layer_norm_epsilon = 0; }),
            "model.layer_norm_epsilon is 0.0, expected more than 0");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.init_std = -1; }), "model.init_std is -1.0, expected more than 0");
}

TEST(ModelConfig, CountsParameters) {
  EXPECT_EQ(ModelConfig{.vocab_size = 69}.num_parameters(), 25'290'752);  // GenSLM's own counts: 25M, then 2.5B
  const ModelConfig larger{.vocab_size = 69, .num_layers = 28, .hidden_size = 3840, .num_heads = 32, .ffn_size = 4096};
  EXPECT_EQ(larger.num_parameters(), 2'533'931'008);
}

TEST(ModelConfig, EveryFieldGoesThroughJson) {
  ModelConfig config{.vocab_size = 7,
                     .num_layers = 2,
                     .hidden_size = 12,
                     .num_heads = 3,
                     .ffn_size = 20,
                     .rotary_pct = 0.5,
                     .rotary_base = 500,
                     .layer_norm_epsilon = 1e-6,
                     .parallel_residual = false,
                     .init_std = 0.1};
  ModelConfig read;
  base::from_json(base::to_json(config), read, "");
  EXPECT_EQ(read, config);
  EXPECT_NE(read, ModelConfig{});
}

}  // namespace
}  // namespace longfold::model
