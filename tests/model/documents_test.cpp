// Documents side by side in the rows of a batch, for each family: nothing of one reaches another, in either direction
// of time or of derivation, and each is as if alone.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "longfold/memory/meter.h"
#include "tests/model/small_models.h"

namespace longfold::model {
namespace {

// Of two rows of 24 tokens: where each begins and ends.
const std::vector<std::pair<int64_t, int64_t>> kDocuments{{0, 5}, {5, 6}, {6, 21}, {21, 24}, {24, 40}, {40, 48}};

struct Batch {
  at::Tensor tokens, labels, positions, documents;
};

Batch make_batch() {
  at::manual_seed(4);
  Batch batch{
      at::randint(11, {2, 24}, at::kLong), at::randint(11, {2, 24}, at::kLong), at::empty({2, 24}, at::kLong), {}};
  std::vector<int64_t> starts;
  for (const auto& [begin, end] : kDocuments) {
    starts.push_back(begin);
    batch.positions.view(-1).slice(0, begin, end).copy_(at::arange(end - begin));
  }
  starts.push_back(48);
  batch.documents = at::tensor(starts, at::kLong);
  return batch;
}

class Documents : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    at::set_num_threads(1);
    config_ = of_family(GetParam(), [](ModelConfig& c) {
      if (c.activation == "swiglu") c.num_kv_heads = 2;
    });
  }
  [[nodiscard]] Transformer make() const {
    Transformer model(config_);
    randomise(*model);
    return model;
  }
  ModelConfig config_;
};
INSTANTIATE_TEST_SUITE_P(Families, Documents, testing::Values("gpt-neox", "gpt2", "llama"), [](const auto& family) {
  return std::string(family.param) == "gpt-neox" ? "gpt_neox" : family.param;
});

TEST_P(Documents, AChangedOneLeavesTheBitsOfAllOthers) {
  Transformer model = make();
  const Batch batch = make_batch();
  const auto logits = [&](const at::Tensor& tokens) {
    return model->logits(tokens, batch.positions, batch.documents).flatten(0, 1);
  };
  const at::Tensor before = logits(batch.tokens);
  for (const auto& changed : kDocuments) {
    at::Tensor tokens = batch.tokens.clone();
    tokens.view(-1).slice(0, changed.first, changed.second).add_(3).remainder_(11);
    const at::Tensor after = logits(tokens);
    for (const auto& [begin, end] : kDocuments) {
      EXPECT_EQ(at::equal(after.slice(0, begin, end), before.slice(0, begin, end)), begin != changed.first)
          << changed.first << " " << begin;
    }
  }
}

TEST_P(Documents, LossesOfOneHaveNoGradientInTheTokensOfAnother) {
  config_.tie_embeddings = false;  // else the head has one in every row
  config_.vocab_size = 48;
  Transformer model = make();
  Batch batch = make_batch();
  batch.tokens = at::arange(48).view({2, 24});  // each its own embedding
  for (const auto& [begin, end] : kDocuments) {
    model->zero_grad();
    const at::Tensor losses = model->token_losses(batch.tokens, batch.labels, batch.positions, batch.documents);
    losses.view(-1).slice(0, begin, end).sum().backward();
    const at::Tensor size = model->named_parameters()["gpt_neox.embed_in.weight"].grad().abs().amax(-1);
    EXPECT_GT(size.slice(0, begin, end).min().item<float>(), 0) << begin;
    EXPECT_EQ(at::count_nonzero(size).item<int64_t>(), end - begin);
  }
}

TEST_P(Documents, AreAsIfAlone) {
  Transformer packed = make(), alone = make();
  const Batch batch = make_batch();
  const at::Tensor losses = packed->token_losses(batch.tokens, batch.labels, batch.positions, batch.documents).view(-1);
  losses.sum().backward();
  for (const auto& [begin, end] : kDocuments) {
    const auto part = [&, begin = begin, end = end](const at::Tensor& x) {
      return x.view(-1).slice(0, begin, end).unsqueeze(0);
    };
    const at::Tensor expected = alone->token_losses(part(batch.tokens), part(batch.labels), part(batch.positions));
    EXPECT_LT(relative(losses.slice(0, begin, end), expected[0]), 1e-5) << begin;
    expected.sum().backward();
  }
  for (const auto& entry : packed->named_parameters()) {
    EXPECT_LT(relative(entry.value().grad(), alone->named_parameters()[entry.key()].grad()), 1e-5) << entry.key();
  }
}

// A mask or scores of [S, S] would show: at 512 tokens they are ten times all else.
TEST_P(Documents, NeedMemoryLinearInTheLength) {
  const auto meter = memory::MemoryMeter::install();
  if (config_.has_learned_positions()) config_.max_positions = 1024;
  Transformer model = make();
  const auto peak = [&](int64_t S) {
    const at::Tensor tokens = at::zeros({1, S}, at::kLong);
    const at::Tensor positions = at::arange(S).remainder(S / 2).unsqueeze(0).contiguous();
    const at::Tensor documents = at::tensor({int64_t{0}, S / 2, S}, at::kLong);
    model->zero_grad();
    meter.reset_peak();
    const int64_t before = meter.live();
    model->token_losses(tokens, tokens, positions, documents).sum().backward();
    return meter.peak() - before;
  };
  (void)peak(128);
  const int64_t small = peak(512), large = peak(1024);
  EXPECT_LT(large, 2.05 * static_cast<double>(small));
}

TEST_P(Documents, NoTokensHaveNoLosses) {
  Transformer model = make();
  for (const auto& [B, S] : {std::pair<int64_t, int64_t>{1, 0}, {0, 5}}) {
    const at::Tensor none = at::zeros({B, S}, at::kLong);
    const at::Tensor losses = model->token_losses(none, none, none);
    EXPECT_EQ(losses.sizes(), none.sizes());
    losses.sum().backward();
    for (const at::Tensor& value : model->parameters()) EXPECT_EQ(value.grad().abs().max().item<double>(), 0);
  }
}

TEST_P(Documents, ThatDoNotFitTheTokensAreRefused) {
  Transformer model = make();
  const Batch batch = make_batch();
  for (const std::vector<int64_t>& starts :
       {std::vector<int64_t>{0, 24}, {0, 24, 49}, {1, 24, 48}, {0, 30, 48}, {0, 12, 6, 24, 48}}) {
    EXPECT_THROW((void)model->logits(batch.tokens, batch.positions, at::tensor(starts, at::kLong)), c10::Error)
        << starts.size();
  }
}

}  // namespace
}  // namespace longfold::model
