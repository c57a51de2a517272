#include "longfold/train/validation.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "longfold/base/error.h"
#include "tests/scratch.h"

namespace longfold::train {
namespace {

std::vector<int32_t> some_tokens(int64_t count, int32_t seed) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) tokens.push_back(static_cast<int32_t>(5 + (seed + i * i * 7) % 64));
  return tokens;
}

void write_data(const std::string& prefix, const std::vector<std::vector<int32_t>>& sequences,
                const char* tokenizer = "genslm69") {
  data::TokenFileWriter writer(prefix, data::make_tokenizer(tokenizer));
  data::TokenFileInfo info{.sources = {}, .frame = "0", .counts = {}};
  for (const auto& tokens : sequences) {
    writer.append(tokens);
    writer.end_sequence({.name = "made-up"});
    info.counts.tokens += std::ssize(tokens);
  }
  writer.commit(info);
}

Recipe recipe_for(const ScratchFolder& folder) {
  Recipe recipe;
  recipe.model.vocab_size = 69;
  recipe.model.num_layers = 1;
  recipe.model.hidden_size = 16;
  recipe.model.num_heads = 1;
  recipe.model.ffn_size = 16;
  recipe.model.init_std = 0.3;
  recipe.data.sequence_length = 16;
  recipe.train.validation = folder / "val";
  recipe.train.steps = 10;
  recipe.train.validate_every = 4;
  return recipe;
}

TEST(Validation, ComesEverySoManyStepsAndAfterTheLast) {
  const ScratchFolder folder;
  write_data(folder / "val", {some_tokens(40, 1)});
  const Validation validation(recipe_for(folder), data::make_tokenizer("genslm69"));
  std::vector<int64_t> due;
  for (int64_t step = 1; step <= 10; ++step) {
    EXPECT_EQ(validation.times_after(step - 1), 3 - std::ssize(due)) << step;
    if (validation.is_due(step)) due.push_back(step);
  }
  EXPECT_EQ(due, (std::vector<int64_t>{4, 8, 10}));
  EXPECT_EQ(validation.times_after(10), 0);
}

// Windows of 16 of records of 40 and 23 tokens, against whole windows of the records by hand.
TEST(Validation, LossIsThatOfEveryLabelOnce) {
  at::set_num_threads(1);
  const ScratchFolder folder;
  const std::vector<std::vector<int32_t>> records{some_tokens(40, 1), some_tokens(23, 9)};
  write_data(folder / "val", records);
  const Recipe recipe = recipe_for(folder);
  model::Transformer model(recipe.model);
  model->initialise(1);
  const Validation validation(recipe, data::make_tokenizer("genslm69"));
  int64_t num_shown = 0;
  const auto loss = validation.loss(model, [&](int64_t done, int64_t of) {
    EXPECT_EQ(done, ++num_shown);
    EXPECT_EQ(of, 5);
  });
  EXPECT_EQ(num_shown, 5);
  double sum = 0;
  for (const auto& record : records) {
    for (size_t begin = 0; begin + 1 < record.size(); begin += 16) {
      const auto count = static_cast<int64_t>(std::min<size_t>(16, record.size() - 1 - begin));
      const at::Tensor tokens = at::tensor(std::vector<int64_t>(record.begin(), record.end())).unsqueeze(0);
      const at::Tensor inputs = tokens.slice(1, begin, begin + count),
                       labels = tokens.slice(1, begin + 1, begin + 1 + count);
      sum += model->token_losses(inputs, labels, at::arange(count, at::kLong).unsqueeze(0)).sum().item<double>();
    }
  }
  EXPECT_NEAR(*loss, sum / (39 + 22), 1e-6);
}

TEST(Validation, SomeWindowsAreTheSameOnesEachTime) {
  at::set_num_threads(1);
  const ScratchFolder folder;
  write_data(folder / "val", {some_tokens(400, 1)});
  Recipe recipe = recipe_for(folder);
  recipe.train.validate_windows = 3;
  model::Transformer model(recipe.model);
  model->initialise(1);
  const auto ignore = [](int64_t, int64_t) {};
  const Validation validation(recipe, data::make_tokenizer("genslm69"));
  recipe.data.seed = 7;
  const Validation again(recipe, data::make_tokenizer("genslm69"));
  EXPECT_EQ(validation.num_windows(), 3);
  EXPECT_EQ(validation.loss(model, ignore), again.loss(model, ignore));
  EXPECT_EQ(validation.identity(), again.identity());
  recipe.train.validate_windows = 0;
  const Validation all(recipe, data::make_tokenizer("genslm69"));
  EXPECT_NE(validation.loss(model, ignore), all.loss(model, ignore));
  EXPECT_NE(validation.identity(), all.identity()) << "their losses are not compared";
}

TEST(Validation, RefusesTokensOfAnotherKind) {
  const ScratchFolder folder;
  write_data(folder / "val", {some_tokens(40, 1)});
  try {
    const Validation validation(recipe_for(folder), data::make_tokenizer("nucleotide"));
    FAIL();
  } catch (const base::UserError& error) {
    EXPECT_EQ(std::string(error.what()).find("expected train.validation to have the tokens of nucleotide (fnv1a64:"),
              0);
  }
}

}  // namespace
}  // namespace longfold::train
