// Losses and gradients that are not numbers: the run ends, or leaves the step out.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "longfold/base/error.h"
#include "longfold/base/files.h"
#include "tests/train/small_run.h"

namespace longfold::train {
namespace {

using Nonfinite = TrainerTest;

TEST_F(Nonfinite, DivergenceEndsTheRunAndKeepsTheCheckpoint) {
  const ScratchFolder folder;
  Recipe recipe = small_recipe(folder, "a");
  recipe.train.checkpoint_every = 1;
  recipe.optimizer.learning_rate = 1e30;
  recipe.optimizer.final_learning_rate = 0;
  recipe.optimizer.warmup_steps = 0;
  try {
    run(recipe);
    FAIL();
  } catch (const base::RunError& error) {
    EXPECT_NE(std::string(error.what()).find("optimizer.learning_rate"), std::string::npos) << error.what();
  }
  EXPECT_TRUE(latest_checkpoint(recipe.train.output).has_value());
}

TEST_F(Nonfinite, DivergenceNamesTheLastGoodCheckpoint) {
  const ScratchFolder folder;
  Recipe recipe = small_recipe(folder, "a");
  run(recipe, /*resume=*/false, /*stop_after=*/12);
  recipe.optimizer.learning_rate = 1e30;
  const auto message = [&]() -> std::string {
    try {
      run(recipe, /*resume=*/true);
    } catch (const Diverged& error) {
      return error.what();
    }
    return "";
  };
  const std::string good = "the last good checkpoint is '" + (folder / "a/step-00000012").string() + "'";
  EXPECT_NE(message().find(good + "; "), std::string::npos) << message();
  recipe.train.checkpoint_every = 1;  // now step 13 is saved, whose parameters give no number
  EXPECT_NE(message().find(good + " ('" + (folder / "a/step-00000013").string() + "' fails the same way"),
            std::string::npos);
}

TEST_F(Nonfinite, DivergenceLeavesAGoodCheckpointThoughOnlyOneIsKept) {
  const ScratchFolder folder;
  Recipe recipe = small_recipe(folder, "a");
  run(recipe, /*resume=*/false, /*stop_after=*/12);
  recipe.optimizer.learning_rate = 1e30;  // the parameters after step 13 are lost
  recipe.train.checkpoint_every = 1;
  recipe.train.keep_last = 1;
  recipe.train.steps = 40;  // beyond what is skipped in a row
  for (const char* on_nonfinite : {"stop", "skip"}) {
    recipe.train.on_nonfinite = on_nonfinite;
    std::filesystem::remove_all(folder / "a/step-00000013");
    EXPECT_THROW(run(recipe, /*resume=*/true), Diverged);
    EXPECT_EQ(checkpoints_in(recipe.train.output).front(), "step-00000012") << on_nonfinite;
  }
}

// Windows of 32 tokens; those in which token 8 comes have no finite loss, as its embedding is lost.
Recipe recipe_with_bad_windows(const ScratchFolder& folder, const std::string& output) {
  Recipe recipe = small_recipe(folder, output, /*length=*/800);
  std::vector<int32_t> tokens = learnable_tokens(800);
  for (int32_t& token : tokens) token = token == 8 ? 9 : token;
  tokens[70] = tokens[300] = 8;
  write_data(recipe.data.path, tokens);
  recipe.data.sequence_length = 32;
  recipe.data.held_out = 0;
  recipe.train.on_nonfinite = "skip";
  return recipe;
}

struct Skipping {
  std::vector<int64_t> steps;  // skipped
  NamedTensors parameters;
  int64_t total = 0;
};

Skipping run_with_bad_windows(const Recipe& recipe, bool resume, int64_t stop_after) {
  Trainer trainer(recipe, memory::MemoryMeter::install());
  if (resume) trainer.resume();
  for (const auto& [name, tensor] : trainer.parameters()) {
    const at::NoGradGuard no_grad;
    if (name == "gpt_neox.embed_in.weight") tensor[8].fill_(std::nan(""));
  }
  Skipping result;
  std::atomic<bool> stop = false;
  Events events;
  events.step = [&](const StepReport& report) {
    if (report.skipped) result.steps.push_back(report.step);
    if (report.step == stop_after) stop = true;
  };
  trainer.run(events, stop);
  result.parameters = trainer.parameters();
  result.total = trainer.steps_skipped();
  return result;
}

TEST_F(Nonfinite, SkippedStepsChangeNothingAndAreCounted) {
  const ScratchFolder folder;
  Recipe recipe = recipe_with_bad_windows(folder, "a");
  recipe.optimizer.warmup_steps = 0;
  const Skipping whole = run_with_bad_windows(recipe, /*resume=*/false, /*stop_after=*/0);
  ASSERT_GE(whole.steps.size(), 1);
  ASSERT_LT(whole.steps.size(), 3);
  EXPECT_EQ(whole.total, std::ssize(whole.steps));
  const std::string metrics = base::read_file(folder / "a/metrics.jsonl");
  const std::string step = "{\"step\":" + std::to_string(whole.steps[0]) + ",\"loss\":null,";
  EXPECT_NE(metrics.find(step), std::string::npos) << metrics;
  size_t num_skipped = 0;
  for (size_t at = 0; (at = metrics.find("\"skipped\":true", at)) != std::string::npos; ++at) ++num_skipped;
  EXPECT_EQ(num_skipped, whole.steps.size());

  // Up to the step before and up to it: the same parameters, and the count goes along.
  recipe.train.output = folder / "before";
  recipe.train.steps = 20;
  const Skipping before = run_with_bad_windows(recipe, false, whole.steps[0] - 1);
  recipe.train.output = folder / "parts";
  const Skipping at = run_with_bad_windows(recipe, false, whole.steps[0]);
  for (size_t i = 0; i < at.parameters.size(); ++i) {
    EXPECT_TRUE(at::allclose(at.parameters[i].tensor, before.parameters[i].tensor, 0, 0, /*equal_nan=*/true));
  }
  EXPECT_EQ(at.total, 1);
  const Skipping rest = run_with_bad_windows(recipe, /*resume=*/true, 0);
  EXPECT_EQ(rest.total, whole.total);
  for (size_t i = 0; i < rest.parameters.size(); ++i) {
    EXPECT_TRUE(at::allclose(rest.parameters[i].tensor, whole.parameters[i].tensor, 0, 0, /*equal_nan=*/true))
        << rest.parameters[i].name;
  }
}

TEST_F(Nonfinite, SkippingEndsWhereNoStepIsGood) {
  const ScratchFolder folder;
  Recipe recipe = small_recipe(folder, "a");
  recipe.train.on_nonfinite = "skip";
  recipe.model.init_std = 1e10;
  try {
    run(recipe);
    FAIL();
  } catch (const Diverged& error) {
    EXPECT_EQ(std::string(error.what()).find("step 11: the loss is nan, "), 0) << error.what();
    EXPECT_NE(std::string(error.what()).find("and 10 steps before were skipped"), std::string::npos) << error.what();
  }
}

TEST_F(Nonfinite, AValidationLossThatIsNoNumberStopsTheRunAndIsNeverTheBest) {
  const ScratchFolder folder;
  Recipe recipe = recipe_with_bad_windows(folder, "a");  // one of its steps is skipped, and more come
  write_data(folder / "val", std::vector<int32_t>(100, 8));
  recipe.train.validation = folder / "val";
  recipe.train.steps = 1;
  recipe.optimizer.warmup_steps = 0;
  recipe.data.seed = 1;
  EXPECT_EQ(run_with_bad_windows(recipe, /*resume=*/false, 0).total, 0)
      << "step 1 has no bad window: else another seed";
  EXPECT_FALSE(best_checkpoint(recipe.train.output));
  recipe.train.on_nonfinite = "stop";
  recipe.train.output = folder / "b";
  try {
    run_with_bad_windows(recipe, /*resume=*/false, 0);
    FAIL();
  } catch (const Diverged& error) {
    EXPECT_EQ(std::string(error.what()).find("after step 1: the loss is -, on validation data nan; "), 0)
        << error.what();
  }
}

TEST_F(Nonfinite, DivergenceInTheEvaluationIsAnErrorToo) {
  const ScratchFolder folder;
  const Recipe recipe = small_recipe(folder, "a");
  Trainer trainer(recipe, memory::MemoryMeter::install());
  const at::NoGradGuard no_grad;
  trainer.parameters()[0].tensor.fill_(std::nan(""));
  EXPECT_THROW(static_cast<void>(trainer.evaluate()), Diverged);
}

}  // namespace
}  // namespace longfold::train
