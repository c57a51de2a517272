#include "tests/train/small_run.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "longfold/base/error.h"

namespace longfold::train {

std::vector<int32_t> learnable_tokens(int64_t count) {
  std::vector<int32_t> tokens{5};
  uint32_t random = 1;
  while (static_cast<int64_t>(tokens.size()) < count) {
    random = random * 1664525 + 1013904223;
    const auto next = (random >> 24) < 200 ? static_cast<uint32_t>(tokens.back()) * 7 + 3 : random >> 16;
    tokens.push_back(static_cast<int32_t>(5 + next % 64));
  }
  return tokens;
}

void write_data(const std::string& prefix, const std::vector<int32_t>& tokens, const char* tokenizer) {
  data::TokenFileWriter writer(prefix, data::make_tokenizer(tokenizer));
  writer.append(tokens);
  writer.end_sequence({.name = "made-up"});
  data::TokenFileInfo info{.sources = {}, .frame = "0", .counts = {}};
  info.counts.tokens = static_cast<int64_t>(tokens.size());
  writer.commit(info);
}

Recipe small_recipe(const ScratchFolder& folder, const std::string& output, int64_t length) {
  write_data(folder / "data", learnable_tokens(length));
  Recipe recipe;
  recipe.model.num_layers = 2;
  recipe.model.hidden_size = 32;
  recipe.model.num_heads = 2;
  recipe.model.ffn_size = 64;
  recipe.data.path = folder / "data";
  recipe.data.held_out = 0.1;
  recipe.optimizer.learning_rate = 1e-2;
  recipe.train.steps = 20;
  recipe.train.output = folder / output;
  recipe.train.seed = 3;
  return recipe;
}

Recipe wide_recipe(const ScratchFolder& folder, const std::string& output) {
  Recipe recipe = small_recipe(folder, output, /*length=*/2000);
  recipe.model.hidden_size = 64;
  recipe.model.ffn_size = 256;
  recipe.optimizer.warmup_steps = 1;
  recipe.train.steps = 4;
  return recipe;
}

RunResult run(const Recipe& recipe, bool resume, int64_t stop_after) {
  Trainer trainer(recipe, memory::MemoryMeter::install());
  if (resume) trainer.resume();
  RunResult result;
  std::atomic<bool> stop = false;
  Events events;
  events.step = [&](const StepReport& report) {
    result.losses.push_back(report.loss.value_or(-1));
    result.held_out_losses.push_back(report.held_out_loss.value_or(-1));
    result.grad_norms.push_back(report.grad_norm);
    if (report.step == stop_after) stop = true;
  };
  result.finished = trainer.run(events, stop);
  result.parameters = trainer.parameters();
  return result;
}

void expect_same_parameters(const NamedTensors& a, const NamedTensors& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(at::equal(a[i].tensor, b[i].tensor)) << a[i].name;
}

std::string refusal(const Recipe& recipe, bool resume) {
  try {
    Trainer trainer(recipe, memory::MemoryMeter::install());
    if (resume) trainer.resume();
  } catch (const base::UserError& error) {
    return error.what();
  }
  return "";
}

std::vector<std::string> checkpoints_in(const std::filesystem::path& output) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(output)) {
    if (entry.is_directory()) names.push_back(entry.path().filename());
  }
  std::ranges::sort(names);
  return names;
}

}  // namespace longfold::train
