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
  EXPECT_EQ(refusal([](ModelConfig& c) { c.hidden_size = c.num_heads << 59; }),
            "model.hidden_size is 4611686018427387904, expected at most 2147483648");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.num_heads = 0; }), "model.num_heads is 0, expected at least 1");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.ffn_size = 0; }), "model.ffn_size is 0, expected at least 1");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.rotary_pct = 1.5; }), "model.rotary_pct is 1.5, expected 0 to 1");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.rotary_pct = NAN; }), "model.rotary_pct is nan, expected 0 to 1");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.rotary_base = 0; }), "model.rotary_base is 0.0, expected more than 0");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.norm_epsilon = 0; }), "model.norm_epsilon is 0.0, expected more than 0");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.init_std = -1; }), "model.init_std is -1.0, expected more than 0");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.dropout = 1; }), "model.dropout is 1.0, expected 0 or more and less than 1");
}

TEST(ModelConfig, RefusesKeysThatDoNotGoTogether) {
  EXPECT_EQ(refusal([](ModelConfig& c) { c.num_kv_heads = 3; }),
            "model.num_heads 8 is not divisible by model.num_kv_heads 3");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.activation = "gelu-tanh"; }),
            "model.activation is 'gelu-tanh', expected one of gelu_tanh, gelu, swiglu");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.norm = "batch"; }), "model.norm is 'batch', expected one of layer, rms");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.positions = "learned"; }), "model.max_positions is 0, expected at least 1");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.positions = "learned", c.max_positions = 9; }),
            "model.rotary_pct is 0.25, expected 0 where model.positions is 'learned'");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.max_positions = 9; }),
            "model.max_positions is 9, expected 0 where model.positions is 'rotary': those have no end");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.rotary_scaling = 0; }), "model.rotary_scaling is 0.0, expected more than 0");
  EXPECT_EQ(refusal([](ModelConfig& c) { c = named_config("gpt2", ""), c.rotary_scaling = 2; }),
            "model.rotary_scaling is 2.0, expected 1.0 where model.positions is 'learned'");
  EXPECT_EQ(refusal([](ModelConfig& c) { c = named_config("gpt2", ""), c.rotary_base = 500; }),
            "model.rotary_base is 500.0, expected 10000.0 where model.positions is 'learned'");
  EXPECT_EQ(
      refusal([](ModelConfig& c) { c.rotary_pct = 0.01; }),
      "model.rotary_pct 0.01 of a head of 64 turns none of its dimensions, expected 2 or more: the model would know "
      "no positions");
}

TEST(ModelConfig, NamesStandForKeys) {
  EXPECT_EQ(named_config("", ""), ModelConfig{});
  EXPECT_EQ(named_config("", "gpt-neox"), ModelConfig{});
  const ModelConfig gpt2 = named_config("gpt2", "");
  EXPECT_EQ(base::to_json(gpt2).dump(),
            R"({"preset":"gpt2","family":"gpt2","vocab_size":0,"num_layers":12,"hidden_size":768,"num_heads":12,)"
            R"("num_kv_heads":0,"ffn_size":3072,"activation":"gelu_tanh","norm":"layer","norm_epsilon":1e-05,)"
            R"("linear_bias":true,"parallel_residual":false,"tie_embeddings":true,"positions":"learned",)"
            R"("max_positions":1024,"rotary_pct":0.0,"rotary_base":10000.0,"rotary_scaling":1.0,)"
            R"("init_std":0.02,"dropout":0.0})");
  EXPECT_EQ(base::to_json(named_config("", "llama")).dump(),
            R"({"preset":"","family":"llama","vocab_size":0,"num_layers":8,"hidden_size":512,"num_heads":8,)"
            R"("num_kv_heads":0,"ffn_size":2048,"activation":"swiglu","norm":"rms","norm_epsilon":1e-05,)"
            R"("linear_bias":false,"parallel_residual":false,"tie_embeddings":false,"positions":"rotary",)"
            R"("max_positions":0,"rotary_pct":1.0,"rotary_base":10000.0,"rotary_scaling":1.0,)"
            R"("init_std":0.02,"dropout":0.0})");
  const ModelConfig mixed = named_config("genslm-25m", "llama");  // sizes of one, structure of the other
  EXPECT_EQ(mixed.hidden_size, 512);
  EXPECT_EQ(mixed.norm, "rms");
  for (const char* name : {"genslm-25m", "genslm-250m", "genslm-2.5b", "genslm-7.9b", "genslm-25b", "gpt2"}) {
    EXPECT_NO_THROW(named_config(name, "").validate()) << name;
  }
  for (const char* name : {"gpt-neox", "gpt2", "llama"}) EXPECT_NO_THROW(named_config("", name).validate()) << name;
  EXPECT_THROW((void)named_config("genslm", ""), base::UserError);
  EXPECT_THROW((void)named_config("", "bert"), base::UserError);
}

int64_t parameters_of(std::string_view preset, int64_t vocab_size) {
  ModelConfig config = named_config(preset, "");
  config.vocab_size = vocab_size;
  return config.num_parameters();
}

TEST(ModelConfig, CountsParameters) {
  EXPECT_EQ(parameters_of("genslm-25m", 69), 25'290'752);  // GenSLM's own counts: 25M, then 2.5B
  EXPECT_EQ(parameters_of("genslm-2.5b", 69), 2'533'931'008);
  EXPECT_EQ(parameters_of("gpt2", 50257), 124'439'808);  // as Hugging Face counts it
}

TEST(ModelConfig, EveryFieldGoesThroughJson) {
  ModelConfig config{.preset = "a",
                     .family = "b",
                     .vocab_size = 7,
                     .num_layers = 2,
                     .hidden_size = 12,
                     .num_heads = 3,
                     .num_kv_heads = 1,
                     .ffn_size = 20,
                     .activation = "c",
                     .norm = "d",
                     .norm_epsilon = 1e-6,
                     .linear_bias = false,
                     .parallel_residual = false,
                     .tie_embeddings = true,
                     .positions = "e",
                     .max_positions = 9,
                     .rotary_pct = 0.5,
                     .rotary_base = 500,
                     .rotary_scaling = 2,
                     .init_std = 0.1,
                     .dropout = 0.3};
  ModelConfig read;
  base::from_json(base::to_json(config), read, "");
  EXPECT_EQ(read, config);
  const auto changed = base::to_json(config), defaults = base::to_json(ModelConfig{});
  EXPECT_EQ(changed.size(), 21);
  for (const auto& [key, value] : changed.items()) EXPECT_NE(value, defaults[key]) << key;
}

}  // namespace
}  // namespace longfold::model
