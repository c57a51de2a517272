// The loop: what a step does, what repeats, what it refuses.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "longfold/base/error.h"
#include "longfold/base/files.h"
#include "tests/train/small_run.h"

namespace longfold::train {
namespace {

INSTANTIATE_TEST_SUITE_P(Threads, TrainerAtThreads, testing::Values(1, 2), testing::PrintToStringParamName());

TEST_P(TrainerAtThreads, RepeatsBitwise) {
  const ScratchFolder folder;
  const RunResult first = run(wide_recipe(folder, "a"));
  const RunResult second = run(wide_recipe(folder, "b"));
  ASSERT_EQ(first.losses.size(), 4);
  EXPECT_EQ(first.losses, second.losses);
  EXPECT_EQ(first.grad_norms, second.grad_norms);
  expect_same_parameters(first.parameters, second.parameters);
}

TEST_F(TrainerTest, LearnsAndRepeatsBitwise) {
  const ScratchFolder folder;
  const RunResult first = run(small_recipe(folder, "a"));
  const RunResult second = run(small_recipe(folder, "b"));
  ASSERT_EQ(first.losses.size(), 20);
  EXPECT_TRUE(first.finished);
  EXPECT_NEAR(first.losses[0], std::log(69), 0.1) << "begins near uniform";
  EXPECT_LT(first.losses[19], first.losses[0] - 1);
  EXPECT_EQ(first.losses, second.losses);
  EXPECT_EQ(first.held_out_losses, second.held_out_losses);
  EXPECT_EQ(first.grad_norms, second.grad_norms);
  expect_same_parameters(first.parameters, second.parameters);
  Recipe other_seed = small_recipe(folder, "c");
  other_seed.train.seed = 4;
  EXPECT_NE(run(other_seed).losses, first.losses);
}

// Not a bit more can be asked for: MKL splits the sum over tokens of a weight gradient by threads, as libtorch does for
// the gains of a layer norm and for the gradients of flash attention.
TEST_F(TrainerTest, ThreadsChangeOnlyTheLastBits) {
  const ScratchFolder folder;
  Recipe recipe = wide_recipe(folder, "a");
  const RunResult one = run(recipe);
  at::set_num_threads(2);
  recipe.train.output = folder / "b";
  const RunResult two = run(recipe);
  ASSERT_EQ(one.losses.size(), 4);
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(one.losses[i], two.losses[i], 1e-5 * one.losses[i]);
}

TEST_F(TrainerTest, HeldOutTokensNeverTouchTheParameters) {
  const ScratchFolder folder;
  Recipe recipe = small_recipe(folder, "a");
  recipe.train.steps = 10;
  const RunResult before = run(recipe);
  std::vector<int32_t> tokens = learnable_tokens(200);
  for (size_t i = 180; i < 200; ++i) tokens[i] = tokens[i] == 20 ? 21 : 20;
  write_data(recipe.data.path, tokens);
  recipe.train.output = folder / "b";
  const RunResult held_out_changed = run(recipe);
  EXPECT_EQ(held_out_changed.losses, before.losses);
  expect_same_parameters(held_out_changed.parameters, before.parameters);
  EXPECT_NE(held_out_changed.held_out_losses, before.held_out_losses) << "the change was there";
  tokens[179] = tokens[179] == 20 ? 21 : 20;  // the last token that is trained on
  write_data(recipe.data.path, tokens);
  recipe.train.output = folder / "c";
  EXPECT_NE(run(recipe).losses, before.losses);
}

// One step, written out with an independent model, fp64 sums and the formulas of clipping and AdamW.
TEST_F(TrainerTest, OneStepIsTheFormula) {
  const ScratchFolder folder;
  Recipe recipe = small_recipe(folder, "a");
  recipe.model.vocab_size = 69;
  recipe.train.steps = 2;
  recipe.optimizer = {.learning_rate = 0.1, .warmup_steps = 2, .epsilon = 1e-2, .weight_decay = 0.5, .clip_norm = 0.1};
  const RunResult got = run(recipe, /*resume=*/false, /*stop_after=*/1);

  model::Transformer transformer(recipe.model);
  transformer->initialise(3);
  const data::TokenFile file(recipe.data.path);
  const at::Tensor tokens = file.tokens(0).unsqueeze(0);
  const at::Tensor labels = at::roll(tokens, -1, 1);
  const at::Tensor losses = transformer->token_losses(tokens, labels, at::arange(200, at::kLong).unsqueeze(0))[0];
  const at::Tensor trained = losses.slice(0, 0, 179).to(at::kDouble);  // labels are tokens 1 .. 179
  EXPECT_NEAR(got.losses[0], trained.mean().item<double>(), 1e-6);
  EXPECT_NEAR(got.held_out_losses[0], losses.slice(0, 179, 199).to(at::kDouble).mean().item<double>(), 1e-6);

  trained.mean().backward();
  double square = 0;
  for (const at::Tensor& parameter : transformer->parameters()) {
    square += parameter.grad().to(at::kDouble).square().sum().item<double>();
  }
  EXPECT_NEAR(got.grad_norms[0], std::sqrt(square), 1e-5 * std::sqrt(square));
  ASSERT_GT(std::sqrt(square), 0.1) << "clipping has something to do";
  const at::NoGradGuard no_grad;
  const std::vector<at::Tensor> parameters = transformer->parameters();
  for (size_t i = 0; i < got.parameters.size(); ++i) {
    const at::Tensor& parameter = parameters[i];
    const at::Tensor gradient = parameter.grad().to(at::kDouble) * (0.1 / std::sqrt(square));
    const double rate = 0.05, decay = parameter.dim() >= 2 ? 0.5 : 0.0;  // step 1 of a warm-up of 2
    const at::Tensor expected = parameter * (1 - rate * decay) - rate * gradient / (gradient.abs() + 1e-2);
    const at::Tensor moved = (expected - parameter).abs().max();
    const double error = (got.parameters[i].tensor - expected).abs().max().item<double>();
    EXPECT_LT(error, 1e-5) << got.parameters[i].name << " moved by " << moved.item<double>();
  }
}

TEST_F(TrainerTest, EvaluatesBothStretches) {
  const ScratchFolder folder;
  const Recipe recipe = small_recipe(folder, "a");
  Trainer trainer(recipe, memory::MemoryMeter::install());
  StepReport first;
  Events events;
  const Evaluation before = trainer.evaluate();
  events.step = [&](const StepReport& report) {
    if (report.step == 1) first = report;
  };
  trainer.run(events, kNeverStop);
  ASSERT_TRUE(before.loss && before.held_out_loss && first.held_out_loss);
  EXPECT_NEAR(*before.loss, *first.loss, 1e-9);
  EXPECT_NEAR(*before.held_out_loss, *first.held_out_loss, 1e-9);
  EXPECT_LT(*trainer.evaluate().loss, *first.loss - 1);
}

TEST_F(TrainerTest, EvaluationHasNoDropout) {
  const ScratchFolder folder;
  Recipe recipe = small_recipe(folder, "a");
  const Evaluation without = Trainer(recipe, memory::MemoryMeter::install()).evaluate();
  recipe.model.dropout = 0.5;
  Trainer trainer(recipe, memory::MemoryMeter::install());
  const Evaluation with = trainer.evaluate();
  EXPECT_EQ(*with.loss, *without.loss);
  EXPECT_EQ(*with.held_out_loss, *without.held_out_loss);
  recipe.train.output = folder / "b";
  EXPECT_NE(run(recipe, /*resume=*/false, /*stop_after=*/1).losses[0], *without.loss);
}

TEST_F(TrainerTest, TakesTheVocabularyOfTheTokenizer) {
  const ScratchFolder folder;
  Recipe recipe = small_recipe(folder, "a");
  ASSERT_EQ(recipe.model.vocab_size, 0) << "left out";
  Trainer trainer(recipe, memory::MemoryMeter::install());
  EXPECT_EQ(trainer.recipe().model.vocab_size, 69);
  recipe.train.output = folder / "b";
  write_data(recipe.data.path, std::vector<int32_t>(200, 6), "nucleotide");
  EXPECT_EQ(Trainer(recipe, memory::MemoryMeter::install()).recipe().model.vocab_size, 9);
  EXPECT_THROW(model::Transformer(model::ModelConfig()), base::UserError) << "nobody said how many";
}

TEST_F(TrainerTest, HasItsFolderToItself) {
  const ScratchFolder folder;
  const Recipe recipe = small_recipe(folder, "a");
  Trainer trainer(recipe, memory::MemoryMeter::install());
  EXPECT_NE(refusal(recipe).find("is in use by process "), std::string::npos) << refusal(recipe);
  std::string within;
  Events events;
  events.step = [&](const StepReport&) { within = refusal(recipe, /*resume=*/true); };
  trainer.run(events, kNeverStop);
  EXPECT_NE(within.find("is in use by process "), std::string::npos) << within;
  EXPECT_EQ(refusal(recipe, /*resume=*/true), "") << "free as soon as all is saved";
  const Trainer other(recipe, memory::MemoryMeter::install());
  EXPECT_THROW(trainer.run(events, kNeverStop), base::RunError) << "before it touches the metrics";
}

TEST_F(TrainerTest, RefusedDataLeavesNoFolder) {
  const ScratchFolder folder;
  Recipe recipe = small_recipe(folder, "a/b");
  recipe.data.path = folder / "none";
  EXPECT_NE(refusal(recipe), "");
  EXPECT_FALSE(std::filesystem::exists(folder / "a"));
}

TEST_F(TrainerTest, TheTimeLeftHasTheEvaluationInIt) {
  const ScratchFolder folder;
  Recipe recipe = small_recipe(folder, "a");
  recipe.data.sequence_length = 16;
  recipe.train.steps = 3;
  Trainer trainer(recipe, memory::MemoryMeter::install());
  EXPECT_EQ(trainer.evaluation_seconds(), 0) << "nothing is known yet";
  std::vector<double> left;
  Events events;
  events.step = [&](const StepReport& report) { left.push_back(report.seconds_left); };
  trainer.run(events, kNeverStop);
  EXPECT_GT(left.back(), 0);
  EXPECT_EQ(left.back(), trainer.evaluation_seconds());
  std::vector<std::pair<int64_t, int64_t>> windows;
  static_cast<void>(trainer.evaluate([&](int64_t done, int64_t of) { windows.emplace_back(done, of); }));
  EXPECT_EQ(windows, (std::vector<std::pair<int64_t, int64_t>>{{1, 2}, {2, 2}}));
}

TEST_F(TrainerTest, RefusesDataThatDoesNotFit) {
  const ScratchFolder folder;
  Recipe recipe = small_recipe(folder, "a");
  recipe.model.vocab_size = 70;
  EXPECT_EQ(refusal(recipe), "expected model.vocab_size to be 69, that of the tokenizer 'genslm69' of " +
                                 recipe.data.path + ", got 70 (left out, it is that of the tokenizer)");
  recipe = small_recipe(folder, "a");
  EXPECT_EQ(refusal(recipe, /*resume=*/true),
            "cannot resume: no checkpoint in '" + recipe.train.output + "' (leave out --resume to begin)");
}

TEST_F(TrainerTest, RefusesChangedTokens) {
  const ScratchFolder folder;
  const Recipe recipe = small_recipe(folder, "a");
  EXPECT_EQ(refusal(recipe), "");
  std::string bytes = base::read_file(recipe.data.path + ".bin");
  bytes[100] = static_cast<char>(bytes[100] ^ 1);
  base::write_file(recipe.data.path + ".bin", bytes);
  EXPECT_NE(refusal(recipe).find(recipe.data.path + ".bin"), std::string::npos) << refusal(recipe);
}

}  // namespace
}  // namespace longfold::train
