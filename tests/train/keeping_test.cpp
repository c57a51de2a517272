// Which checkpoints a run writes, and which of them stay.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/train/small_run.h"

namespace longfold::train {
namespace {

using Keeping = TrainerTest;

TEST_F(Keeping, CheckpointsComeOnTimeAndOnce) {
  const ScratchFolder folder;
  Recipe recipe = small_recipe(folder, "a");
  recipe.train.steps = 10;
  recipe.train.checkpoint_every = 5;
  std::vector<std::string> saved;
  Events events;
  events.checkpoint = [&](const std::filesystem::path& path) { saved.push_back(path.filename()); };
  Trainer(recipe, memory::MemoryMeter::install()).run(events, kNeverStop);
  EXPECT_EQ(saved, (std::vector<std::string>{"step-00000005", "step-00000010"}));
}

TEST_F(Keeping, OldCheckpointsGoOnceTheNewestIsKnownToBeGood) {
  const ScratchFolder folder;
  Recipe recipe = small_recipe(folder, "a");
  recipe.train.steps = 9;
  recipe.train.checkpoint_every = 1;
  recipe.train.keep_last = 1;
  recipe.train.keep_every = 4;
  std::vector<std::vector<std::string>> seen;
  Events events;
  events.step = [&](const StepReport&) { seen.push_back(checkpoints_in(recipe.train.output)); };
  Trainer(recipe, memory::MemoryMeter::install()).run(events, kNeverStop);
  using Names = std::vector<std::string>;
  EXPECT_EQ(seen[1], (Names{"step-00000001"})) << "step 2 has shown that it is good";
  EXPECT_EQ(seen[2], (Names{"step-00000002"}));
  EXPECT_EQ(seen[8], (Names{"step-00000004", "step-00000008"}));
  EXPECT_EQ(checkpoints_in(recipe.train.output), (Names{"step-00000004", "step-00000008", "step-00000009"}));
}

Recipe recipe_with_validation(const ScratchFolder& folder, const std::string& output) {
  Recipe recipe = small_recipe(folder, output, /*length=*/800);
  std::vector<int32_t> never{5};  // each token is followed by one that it never is in training, so that learning harms
  while (never.size() < 300) never.push_back(5 + (never.back() * 7 + 3 + 32) % 64);
  write_data(folder / "val", never);
  recipe.data.sequence_length = 64;
  recipe.optimizer.learning_rate = 0.03;
  recipe.optimizer.warmup_steps = 1;
  recipe.train.validation = folder / "val";
  recipe.train.validate_every = 2;
  recipe.train.keep_last = 1;
  return recipe;
}

TEST_F(Keeping, TheBestCheckpointStays) {
  const ScratchFolder folder;
  const Recipe recipe = recipe_with_validation(folder, "whole");
  std::vector<double> losses;
  std::vector<int64_t> steps;
  Events events;
  events.step = [&](const StepReport& report) {
    if (!report.validation_loss) return;
    losses.push_back(*report.validation_loss);
    steps.push_back(report.step);
  };
  Trainer trainer(recipe, memory::MemoryMeter::install());
  trainer.run(events, kNeverStop);
  EXPECT_EQ(steps, (std::vector<int64_t>{2, 4, 6, 8, 10, 12, 14, 16, 18, 20}));
  const auto least = std::ranges::min_element(losses);
  ASSERT_TRUE(trainer.best());
  EXPECT_EQ(trainer.best()->step, steps[static_cast<size_t>(least - losses.begin())]);
  EXPECT_EQ(trainer.best()->validation_loss, *least);
  ASSERT_LT(trainer.best()->step, 20) << "the last step is not the best one: else this shows nothing";
  const auto best = best_checkpoint(recipe.train.output);
  ASSERT_TRUE(best);
  EXPECT_EQ(*best, checkpoint_path(recipe.train.output, trainer.best()->step));
  EXPECT_EQ(checkpoints_in(recipe.train.output).size(), 2) << "it and the last";

  // The best one's parameters give that loss.
  load_model(*best, trainer.parameters());
  EXPECT_LT(*trainer.evaluate().loss, 5);
}

TEST_F(Keeping, AResumedRunKnowsTheBest) {
  const ScratchFolder folder;
  Recipe recipe = recipe_with_validation(folder, "whole");
  run(recipe);
  for (const int64_t stop_after : {1, 2, 7, 13}) {
    recipe.train.output = folder / ("parts" + std::to_string(stop_after));
    run(recipe, /*resume=*/false, stop_after);
    run(recipe, /*resume=*/true);
    EXPECT_EQ(checkpoints_in(recipe.train.output), checkpoints_in(folder / "whole")) << stop_after;
    EXPECT_EQ(read_manifest(*latest_checkpoint(recipe.train.output)).best->validation_loss,
              read_manifest(*latest_checkpoint(folder / "whole")).best->validation_loss);
  }
}

}  // namespace
}  // namespace longfold::train
