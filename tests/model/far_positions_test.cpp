// Positions are whole numbers and their angles exact, however far: fp32 counts to 16,777,216, bf16 to 256.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <vector>

#include "longfold/model/rotary.h"
#include "oracle.h"
#include "tests/model/small_models.h"

namespace longfold::model {
namespace {

constexpr int64_t kBeyondFp32 = 20'000'001;

TEST(FarPositions, GiveWhatTheOracleGives) {
  for (const char* family : {"gpt-neox", "llama"}) {
    const ModelConfig config = of_family(family);
    Transformer model(config);
    randomise(*model);
    Parameters parameters;
    for (const auto& entry : model->named_parameters()) {
      parameters[entry.key()] = entry.value().detach().to(at::kDouble);
    }
    const at::Tensor tokens = at::randint(11, {2, 37}, at::kLong);
    // Steps of 3: rounded to fp32, which has the even numbers there, distances would differ.
    const at::Tensor positions = (at::arange(37) * 3 + kBeyondFp32).expand({2, 37}).contiguous();
    const at::Tensor expected = oracle(config, parameters, tokens, tokens, positions).hidden;
    EXPECT_LT(relative(model->hidden(tokens, positions), expected), 1e-5) << family;
    const at::Tensor rounded = positions.to(at::kFloat).to(at::kLong);
    EXPECT_GT(relative(model->hidden(tokens, rounded), expected), 1e-3) << family;
  }
}

// Values are rounded to bf16, angles are not.
TEST(FarPositions, TurnInBf16AsInFp32) {
  const std::vector<int64_t> far{255, 256, 257, 1003, 48'501, kBeyondFp32};
  const at::Tensor positions = at::tensor(far, at::kLong).unsqueeze(0);
  const RotaryTables tables = rotary_tables(positions, 8, 10'000);
  const at::Tensor qkv = at::randn({1, 6, 2, 24}).to(at::kBFloat16);
  const Qkv expected = split_and_rotate(qkv.to(at::kDouble), 8, tables);
  const Qkv got = split_and_rotate(qkv.clone(), 8, tables);
  ASSERT_EQ(got.q.scalar_type(), at::kBFloat16);
  // Of two products and a sum of values up to about 3, each with 8 bits.
  EXPECT_LT((got.q.to(at::kDouble) - expected.q).abs().max().item<double>(), 0.05);
  EXPECT_LT((got.k.to(at::kDouble) - expected.k).abs().max().item<double>(), 0.05);
  const RotaryTables rounded = rotary_tables(positions.to(at::kBFloat16).to(at::kLong), 8, 10'000);
  EXPECT_GT((split_and_rotate(qkv.to(at::kDouble), 8, rounded).q - expected.q).abs().max().item<double>(), 0.5);
}

TEST(FarPositions, LearnedOnesAreThoseRowsAndNoOthers) {
  ModelConfig config = of_family("gpt2");
  config.max_positions = 70'001;
  Transformer model(config);
  randomise(*model);
  const std::vector<int64_t> far{255, 256, 257, 65'535, 65'536, 65'793, 70'000};
  const at::Tensor tokens = at::randint(11, {1, 7}, at::kLong);
  model->token_losses(tokens, tokens, at::tensor(far, at::kLong).unsqueeze(0)).sum().backward();
  const at::Tensor gradient = model->named_parameters()["gpt_neox.embed_positions.weight"].grad();
  const at::Tensor rows = gradient.abs().amax(-1).nonzero().view(-1);
  EXPECT_TRUE(at::equal(rows, at::tensor(far, at::kLong)));
  EXPECT_THROW((void)model->hidden(tokens, at::arange(7).unsqueeze(0) - 1), c10::Error) << "position -1";
}

}  // namespace
}  // namespace longfold::model
