#include "longfold/model/config.h"

#include <gtest/gtest.h>

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
  EXPECT_EQ(refusal([](ModelConfig& c) { c.vocab_size = -3; }), "model.vocab_size is -3, expected at least 1");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.num_heads = 0; }), "model.num_heads is 0, expected at least 1");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.ffn_size = 0; }), "model.ffn_size is 0, expected at least 1");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.rotary_pct = 1.5; }), "model.rotary_pct is 1.5, expected 0 to 1");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.rotary_base = 0; }), "model.rotary_base is 0.0, expected more than 0");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.layer_norm_epsilon = 0; }),
            "model.layer_norm_epsilon is 0.0, expected more than 0");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.init_std = -1; }), "model.init_std is -1.0, expected more than 0");
}

TEST(ModelConfig, PresetsHaveTheirSize) {
  const auto parameters = [](const char* name) {
    const ModelConfig config = model_preset(name);
    config.validate();
    return config.num_parameters();
  };
  EXPECT_EQ(parameters("25M"), 25'290'752);  // this, 2.5B and 7.9B are GenSLM's own counts
  EXPECT_EQ(parameters("250M"), 242'690'048);
  EXPECT_EQ(parameters("2.5B"), 2'533'931'008);
  EXPECT_EQ(parameters("7.9B"), 7'867'596'800);
  EXPECT_EQ(parameters("25B"), 25'574'854'656);
}

TEST(ModelConfig, UnknownPresetIsNamedWithTheNearest) {
  try {
    (void)model_preset("25m");
    FAIL();
  } catch (const base::UserError& error) {
    EXPECT_STREQ(error.what(), "unknown model preset '25m', did you mean '25M'?");
  }
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
