// A run that was stopped goes on as if nothing happened, or says why it cannot.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "longfold/base/files.h"
#include "tests/train/small_run.h"

namespace longfold::train {
namespace {

using Resume = TrainerTest;
using ResumeAtThreads = TrainerAtThreads;
INSTANTIATE_TEST_SUITE_P(Threads, ResumeAtThreads, testing::Values(1, 2), testing::PrintToStringParamName());

TEST_P(ResumeAtThreads, ResumesBitwise) {
  const ScratchFolder folder;
  Recipe recipe = wide_recipe(folder, "whole");
  recipe.data.sequence_length = 600;
  recipe.data.batch_size = 2;
  const RunResult whole = run(recipe);
  recipe.train.output = folder / "parts";
  EXPECT_FALSE(run(recipe, /*resume=*/false, /*stop_after=*/2).finished);
  const RunResult rest = run(recipe, /*resume=*/true);
  EXPECT_EQ(rest.losses, std::vector<double>(whole.losses.begin() + 2, whole.losses.end()));
  EXPECT_EQ(base::read_file(folder / "parts/step-00000004/model.safetensors"),
            base::read_file(folder / "whole/step-00000004/model.safetensors"));
  EXPECT_EQ(base::read_file(folder / "parts/step-00000004/optimizer.safetensors"),
            base::read_file(folder / "whole/step-00000004/optimizer.safetensors"));
}

TEST_F(Resume, ResumedInTheMiddleGivesTheSameBits) {
  const ScratchFolder folder;
  Recipe recipe = small_recipe(folder, "whole");
  recipe.data.sequence_length = 32;  // so that steps see different windows
  recipe.data.batch_size = 2;
  const RunResult whole = run(recipe);
  recipe.train.output = folder / "parts";
  const RunResult first = run(recipe, /*resume=*/false, /*stop_after=*/12);
  EXPECT_FALSE(first.finished);
  EXPECT_TRUE(std::filesystem::exists(folder / "parts/step-00000012/manifest.json"));
  const RunResult rest = run(recipe, /*resume=*/true);
  EXPECT_TRUE(rest.finished);
  std::vector<double> joined = first.losses;
  joined.insert(joined.end(), rest.losses.begin(), rest.losses.end());
  EXPECT_EQ(joined, whole.losses);
  expect_same_parameters(rest.parameters, whole.parameters);
  const std::string metrics = base::read_file(folder / "parts/metrics.jsonl");
  EXPECT_EQ(std::ranges::count(metrics, '\n'), 20) << "continued, not duplicated";
  EXPECT_EQ(base::read_file(folder / "parts/step-00000020/model.safetensors"),
            base::read_file(folder / "whole/step-00000020/model.safetensors"));
  EXPECT_EQ(base::read_file(folder / "parts/step-00000020/optimizer.safetensors"),
            base::read_file(folder / "whole/step-00000020/optimizer.safetensors"));
}

TEST_F(Resume, MasksOfDropoutAreTheSame) {
  const ScratchFolder folder;
  Recipe recipe = small_recipe(folder, "whole");
  recipe.data.sequence_length = 32;
  recipe.train.steps = 6;
  const std::vector<double> without = run(recipe).losses;
  recipe.model.dropout = 0.2;
  recipe.train.output = folder / "dropped";
  const RunResult whole = run(recipe);
  EXPECT_NE(whole.losses, without);
  recipe.train.output = folder / "parts";
  const RunResult first = run(recipe, /*resume=*/false, /*stop_after=*/2), rest = run(recipe, /*resume=*/true);
  EXPECT_EQ(first.losses, std::vector<double>(whole.losses.begin(), whole.losses.begin() + 2));
  EXPECT_EQ(rest.losses, std::vector<double>(whole.losses.begin() + 2, whole.losses.end()));
  expect_same_parameters(rest.parameters, whole.parameters);
}

TEST_F(Resume, ResumedAtTheEndDoesNothing) {
  const ScratchFolder folder;
  Recipe recipe = small_recipe(folder, "a");
  const RunResult whole = run(recipe);
  const RunResult again = run(recipe, /*resume=*/true);
  EXPECT_TRUE(again.finished && again.losses.empty());
  expect_same_parameters(again.parameters, whole.parameters);
}

TEST_F(Resume, RefusesToResumeWithAnotherTokenizerDataOrModel) {
  const ScratchFolder folder;
  Recipe recipe = small_recipe(folder, "a");
  run(recipe, /*resume=*/false, /*stop_after=*/2);
  Recipe other = recipe;
  other.model.num_layers = 1;
  EXPECT_NE(refusal(other, true).find("model.num_layers was 2"), std::string::npos) << refusal(other, true);
  other = recipe;
  other.train.steps = 30;
  EXPECT_EQ(Trainer(other, memory::MemoryMeter::install())
                .resume()
                .find("train.steps was 20, now 30; the learning rate goes from "),
            0);
  other = recipe;
  other.train.steps = 1;
  other.optimizer.warmup_steps = 0;
  EXPECT_NE(refusal(other, true).find("is already at step 2"), std::string::npos);

  std::vector<int32_t> tokens = learnable_tokens(200);
  tokens[5] = tokens[5] == 20 ? 21 : 20;
  write_data(recipe.data.path, tokens);
  EXPECT_NE(refusal(recipe, true).find("was trained on tokens with hash"), std::string::npos);
  for (int32_t& token : tokens) token = 5 + token % 4;
  write_data(recipe.data.path, tokens, "nucleotide");
  other = recipe;
  other.model.vocab_size = 9;
  EXPECT_NE(refusal(other, true).find("was trained with tokenizer genslm69 (fnv1a64:"), std::string::npos);
}

}  // namespace
}  // namespace longfold::train
