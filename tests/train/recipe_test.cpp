#include "longfold/train/recipe.h"

#include <gtest/gtest.h>

#include "longfold/base/error.h"
#include "longfold/base/files.h"
#include "tests/scratch.h"

namespace longfold::train {
namespace {

using Options = std::vector<std::pair<std::string, std::string>>;

constexpr const char* kGood = "[data]\npath = 'x'\n[train]\noutput = 'y'\nsteps = 20\n";

Recipe read(const std::string& text, const Options& options = {}) {
  const ScratchFolder folder;
  base::write_file(folder / "r.toml", text);
  return read_recipe(folder / "r.toml", options);
}

// What the recipe is refused with, from the recipe's name on.
std::string refusal(const std::string& text, const Options& options = {}) {
  try {
    read(text, options);
  } catch (const base::UserError& error) {
    const std::string message = error.what();
    const size_t name = message.find("r.toml");
    return name == std::string::npos ? message : message.substr(name);
  }
  return "";
}

TEST(Recipe, ReadsSectionsAndKeepsDefaults) {
  const Recipe recipe = read("[model]\nnum_layers = 3\n[compute]\nmemory_limit = '1MiB'\n" + std::string(kGood));
  EXPECT_EQ(recipe.model.num_layers, 3);
  EXPECT_EQ(recipe.model.hidden_size, model::ModelConfig().hidden_size);
  EXPECT_EQ(recipe.compute.memory_limit.count, 1 << 20);
  EXPECT_EQ(recipe.data.path, "x");
  EXPECT_EQ(recipe.train.steps, 20);
}

TEST(Recipe, OptionsWin) {
  const Recipe recipe = read(kGood, {{"train.steps", "30"}, {"optimizer.beta1", "0.5"}, {"train.steps", "40"}});
  EXPECT_EQ(recipe.train.steps, 40);
  EXPECT_EQ(recipe.optimizer.beta1, 0.5);
}

TEST(Recipe, APresetStandsInForKeysThatAreLeftOut) {
  const std::string preset = "[model]\npreset = 'genslm-250m'\nnum_layers = 3\n" + std::string(kGood);
  EXPECT_EQ(read(preset).model.hidden_size, 1792);
  EXPECT_EQ(read(preset).model.num_layers, 3);
  EXPECT_EQ(read(preset, {{"model.preset", "genslm-25m"}}).model.hidden_size, 512);
  EXPECT_EQ(read(preset, {{"model.preset", "genslm-25m"}}).model.num_layers, 8)
      << "an option wins over the file's keys";
  EXPECT_EQ(read(preset, {{"model.preset", "gpt2"}}).model.positions, "learned");
  EXPECT_EQ(read(preset, {{"model.preset", "genslm-25m"}, {"model.hidden_size", "64"}}).model.hidden_size, 64);
  EXPECT_EQ(read(preset, {{"model.family", "llama"}}).model.activation, "swiglu");
  EXPECT_EQ(refusal("[model]\npreset = 'genslm-25b '\n" + std::string(kGood)),
            "model.preset is 'genslm-25b ', expected one of genslm-25m, genslm-250m, genslm-2.5b, genslm-7.9b, "
            "genslm-25b, gpt2");
}

TEST(Recipe, RefusesWithTheKeyOrTheLine) {
  EXPECT_EQ(refusal("[model]\nnum_layer = 3\n"), "r.toml: unknown key 'model.num_layer', did you mean 'num_layers'?");
  EXPECT_EQ(refusal("[optimiser]\nbeta1 = 3\n"), "r.toml: unknown key 'optimiser', did you mean 'optimizer'?");
  EXPECT_EQ(refusal("[model]\nnum_layers = 'many'\n"),
            "r.toml: expected model.num_layers to be a whole number, got \"many\"");
  EXPECT_EQ(refusal("[model]\nnum_layers = [1]\n"),
            "r.toml: line 2: expected a text, a number, true or false, got a list or a date");
  EXPECT_TRUE(refusal("[model]\n\nnum_layers = = 3\n").starts_with("r.toml: line 3: "))
      << refusal("[model]\n\nnum_layers = = 3\n");
  EXPECT_TRUE(refusal("[model]\nnum_layers = 3\nnum_layers = 4\n").starts_with("r.toml: line 3: "));
  EXPECT_EQ(refusal(kGood, {{"train.step", "3"}}), "unknown option 'train.step', did you mean 'steps'?");
}

TEST(Recipe, IsValidatedBeforeAnyWork) {
  EXPECT_EQ(refusal("[data]\npath = 'x'\n"), "expected train.output to be a folder, got \"\"");
  EXPECT_EQ(refusal(kGood, {{"train.steps", "0"}}), "expected train.steps to be 1 or more, got 0");
  EXPECT_EQ(refusal(kGood, {{"train.seed", "-1"}}), "expected train.seed to be 0 or more, got -1");
  EXPECT_EQ(refusal(kGood, {{"compute.device", "tpu"}}),
            "expected compute.device to be cpu, cuda or auto, got \"tpu\"");
  EXPECT_EQ(refusal(kGood, {{"optimizer.warmup_steps", "21"}}),
            "expected optimizer.warmup_steps to be at most train.steps, which is 20, got 21");
  EXPECT_EQ(refusal(kGood, {{"optimizer.final_learning_rate", "0.5"}}),
            "expected optimizer.final_learning_rate to be between 0 and learning_rate, which is 0.001, got 0.5");
  EXPECT_EQ(refusal(kGood, {{"optimizer.warmup_steps", "-1"}}),
            "expected optimizer.warmup_steps to be 0 or more, got -1");
  EXPECT_NE(refusal(kGood, {{"model.hidden_size", "100"}, {"model.num_heads", "3"}}).find("hidden_size"),
            std::string::npos);
  EXPECT_NE(refusal(kGood, {{"model.rotary_pct", "0.27"}}).find("rotary_pct"), std::string::npos);
}

TEST(Recipe, SaysWhatAResumedRunChanges) {
  const std::string warm = std::string(kGood) + "[optimizer]\nwarmup_steps = 2\nfinal_learning_rate = 0.0\n";
  const auto json = base::to_json(read(warm, {{"train.steps", "6"}, {"optimizer.learning_rate", "3e-3"}}));
  const auto changes = [&](Options options, int64_t done) {
    options.insert(options.begin(), {{"train.steps", "6"}, {"optimizer.learning_rate", "3e-3"}});
    return describe_changes(read(warm, options), json, done);
  };
  EXPECT_EQ(changes({}, 3), "");
  EXPECT_EQ(changes({{"data.path", "z"}, {"train.output", "z"}, {"train.checkpoint_every", "1"}}, 3), "");
  EXPECT_EQ(changes({{"train.steps", "8"}}, 6),
            "train.steps was 6, now 8; the learning rate goes from 0 in step 6 to 0.000201 in step 7");
  EXPECT_EQ(
      changes({{"optimizer.learning_rate", "0.006"}}, 2),
      "optimizer.learning_rate was 0.003, now 0.006; the learning rate goes from 0.003 in step 2 to 0.005121 in step "
      "3");
  EXPECT_EQ(changes({{"optimizer.weight_decay", "0.5"}, {"compute.threads", "1"}}, 2),
            "optimizer.weight_decay was 0.1, now 0.5; compute.threads was 0, now 1");
  EXPECT_EQ(changes({{"train.steps", "5"}}, 5), "train.steps was 6, now 5") << "no step is left";
}

TEST(Recipe, ResumedRunsMayChangeSomeKeysOnly) {
  const Recipe trained = read(kGood);
  const auto json = base::to_json(trained);
  const auto refused = [&](const Options& options) -> std::string {
    try {
      check_same_run(read(kGood, options), json, "c");
    } catch (const base::UserError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(refused({{"train.steps", "99"}, {"data.path", "z"}, {"train.output", "z"}, {"compute.threads", "1"}}), "");
  const std::string by_name = "[model]\npreset = 'genslm-25m'\n" + std::string(kGood);
  EXPECT_NO_THROW(check_same_run(read(by_name), json, "c")) << "the defaults have its sizes";
  EXPECT_EQ(refused({{"model.num_layers", "2"}}), "cannot resume: model.num_layers was 8 in 'c', the recipe says 2");
  EXPECT_EQ(refused({{"data.held_out", "0.2"}}), "cannot resume: data.held_out was 0.0 in 'c', the recipe says 0.2");
  EXPECT_EQ(refused({{"train.seed", "2"}}), "cannot resume: train.seed was 0 in 'c', the recipe says 2");
}

TEST(Recipe, LengthsInTokensBecomeSteps) {
  const std::string windows = "[data]\npath = 'x'\nsequence_length = 100\nbatch_size = 2\n[train]\noutput = 'y'\n";
  const std::string tokens = windows + "accumulate = 5\ntokens = 20_001\n[optimizer]\nschedule = 'wsd'\n" +
                             "warmup_tokens = 2000\ndecay_tokens = 3000\n";
  const Recipe recipe = read(tokens);  // 1000 tokens in a step
  EXPECT_EQ(recipe.train.steps, 21);
  EXPECT_EQ(recipe.optimizer.warmup_steps, 2);
  EXPECT_EQ(recipe.optimizer.decay_steps, 3);
  EXPECT_EQ(read(tokens, {{"train.steps", "12"}}).train.steps, 12) << "an option takes the place of the file's key";
  EXPECT_EQ(read(kGood, {{"train.tokens", "2000"}, {"data.sequence_length", "100"}}).train.steps, 20);
  EXPECT_EQ(refusal(tokens, {{"train.steps", "12"}, {"train.tokens", "99"}}),
            "expected train.tokens or train.steps, got both");
  EXPECT_EQ(refusal(windows + "steps = 30\n[optimizer]\nwarmup_steps = 3\nwarmup_tokens = 9\n"),
            "expected optimizer.warmup_tokens or optimizer.warmup_steps, got both");
  EXPECT_EQ(refusal(kGood, {{"train.tokens", "2000"}}).find("expected data.sequence_length to be above 0 for"), 0);
}

TEST(Recipe, RefusesKeysThatDoNotGoTogether) {
  const auto refused = [](const Options& options) { return refusal(kGood, options); };
  EXPECT_EQ(refused({{"optimizer.schedule", "step"}}),
            "expected optimizer.schedule to be constant, linear, cosine or wsd, got \"step\"");
  EXPECT_EQ(refused({{"optimizer.decay_steps", "3"}}),
            "expected optimizer.decay_steps to be 0 where optimizer.schedule is \"cosine\", got 3");
  EXPECT_EQ(
      refused({{"optimizer.schedule", "wsd"}, {"optimizer.decay_steps", "11"}}),
      "expected optimizer.decay_steps to be at most train.steps less optimizer.warmup_steps, which is 10, got 11");
  EXPECT_EQ(refused({{"train.keep_every", "5"}}),
            "expected train.keep_every to be 0 where train.keep_last is 0, which keeps all, got 5");
  EXPECT_EQ(refused({{"train.validate_every", "5"}}),
            "expected train.validation to be the prefix of a data set, as train.validate_every is 5, got \"\"");
  EXPECT_EQ(refused({{"train.on_nonfinite", "ignore"}}),
            "expected train.on_nonfinite to be \"stop\" or \"skip\", got \"ignore\"");
}

}  // namespace
}  // namespace longfold::train
