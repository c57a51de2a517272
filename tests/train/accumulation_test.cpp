// Steps of several batches, and steps without a label.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/train/small_run.h"

namespace longfold::train {
namespace {

using Accumulation = TrainerTest;

TEST_F(Accumulation, BatchesInTurnAreOneBatch) {
  const ScratchFolder folder;
  Recipe recipe = small_recipe(folder, "whole");
  recipe.data.sequence_length = 32;
  recipe.data.batch_size = 4;
  recipe.train.steps = 5;
  const RunResult whole = run(recipe);
  recipe.data.batch_size = 2;
  recipe.train.accumulate = 2;
  recipe.train.output = folder / "parts";
  const RunResult parts = run(recipe, /*resume=*/false, /*stop_after=*/3);
  recipe.data.batch_size = 1;
  recipe.train.accumulate = 4;
  EXPECT_EQ(Trainer(recipe, memory::MemoryMeter::install()).resume(),
            "data.batch_size was 2, now 1; train.accumulate was 2, now 4");
  const RunResult rest = run(recipe, /*resume=*/true);
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_NEAR(i < 3 ? parts.losses[i] : rest.losses[i - 3], whole.losses[i], 1e-5) << i;
    EXPECT_NEAR(i < 3 ? parts.grad_norms[i] : rest.grad_norms[i - 3], whole.grad_norms[i], 1e-4) << i;
  }
  recipe.train.accumulate = 3;
  EXPECT_NE(refusal(recipe, /*resume=*/true).find("data.batch_size x train.accumulate was 4"), std::string::npos);
}

// [UNK] counts in no loss. A step without a label has no loss and a gradient of 0, and is a step of AdamW all the same:
// decay pulls, and what the moments hold goes on to move the parameters.
TEST_F(Accumulation, MasksOfDropoutAreThoseOfOneBatch) {
  const ScratchFolder folder;
  Recipe recipe = small_recipe(folder, "whole");
  recipe.model.dropout = 0.2;
  recipe.data.sequence_length = 32;
  recipe.data.batch_size = 4;
  recipe.train.steps = 3;
  const RunResult whole = run(recipe);
  recipe.data.batch_size = 1;
  recipe.train.accumulate = 4;
  recipe.train.output = folder / "parts";
  const RunResult parts = run(recipe);
  for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(parts.losses[i], whole.losses[i], 1e-5) << i;
  recipe.model.dropout = 0;
  recipe.train.output = folder / "none";
  EXPECT_GT(std::abs(run(recipe).losses[2] - whole.losses[2]), 1e-3) << "dropout does something";
}

TEST_F(Accumulation, WithoutLabelsThereIsNoLossAndDecayActs) {
  const ScratchFolder folder;
  Recipe recipe = small_recipe(folder, "a");
  write_data(recipe.data.path, std::vector<int32_t>(200, 0));
  recipe.optimizer = {.learning_rate = 0.1, .warmup_steps = 1, .weight_decay = 0.5};
  recipe.train.steps = 2;
  Trainer trainer(recipe, memory::MemoryMeter::install());
  std::vector<at::Tensor> before;
  for (const NamedTensor& parameter : trainer.parameters()) before.push_back(parameter.tensor.detach().clone());
  std::atomic<bool> stop = false;
  StepReport first;
  Events events;
  events.step = [&](const StepReport& report) { first = report, stop = true; };
  trainer.run(events, stop);
  EXPECT_FALSE(first.loss || first.held_out_loss);
  EXPECT_EQ(first.grad_norm, 0);
  const NamedTensors after = trainer.parameters();
  for (size_t i = 0; i < after.size(); ++i) {
    const double kept = before[i].dim() >= 2 ? 1 - 0.1 * 0.5 : 1;
    EXPECT_TRUE(at::allclose(after[i].tensor, before[i] * kept)) << after[i].name;
  }
  const Evaluation evaluation = trainer.evaluate();
  EXPECT_FALSE(evaluation.loss || evaluation.held_out_loss);
}

TEST_F(Accumulation, WithoutLabelsMomentumActs) {
  const ScratchFolder folder;
  Recipe recipe = small_recipe(folder, "a");
  std::vector<int32_t> tokens = learnable_tokens(65);
  tokens.resize(129, 0);  // a window of 64 labels, and one without any
  write_data(recipe.data.path, tokens);
  recipe.data.sequence_length = 64;
  recipe.data.held_out = 0;
  recipe.optimizer = {.learning_rate = 0.1, .warmup_steps = 1, .weight_decay = 0};
  const auto outcome = [&](const char* output, int64_t stop_after) {
    recipe.train.output = folder / output;
    return run(recipe, /*resume=*/false, stop_after);
  };
  while (outcome("order", 1).losses[0] < 0) {  // until the one with labels comes first
    std::filesystem::remove_all(folder / "order");
    ++recipe.data.seed;
  }
  const RunResult one = outcome("one", 1), two = outcome("two", 2);
  EXPECT_GT(two.losses[0], 0);
  EXPECT_EQ(two.losses[1], -1);
  EXPECT_EQ(two.grad_norms[1], 0);
  EXPECT_FALSE(at::equal(one.parameters[0].tensor, two.parameters[0].tensor));
}

}  // namespace
}  // namespace longfold::train
