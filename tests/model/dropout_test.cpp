#include "longfold/model/dropout.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "longfold/memory/meter.h"
#include "tests/model/small_models.h"

namespace longfold::model {
namespace {

using Place = Dropout::Place;

Dropout of_step(int64_t step, double probability = 0.3, int64_t first_row = 0) {
  return {probability, {dropout_key(7, step), first_row}};
}

TEST(Dropout, KeepsItsPartEverywhereAndScalesIt) {
  const at::Tensor x = at::randn({4, 300, 250}) + 10;  // none is zero
  for (const double probability : {0.05, 0.3, 0.9}) {
    const at::Tensor y = of_step(3, probability)(x, Place::kMlp);
    const at::Tensor kept = y.ne(0);
    EXPECT_TRUE(at::equal(y.masked_select(kept), x.masked_select(kept) * static_cast<float>(1 / (1 - probability))));
    // In all, in each row, at each token and in each feature: within 5 standard errors (6 where there are many means).
    const auto expect_part = [&, probability = probability](const at::Tensor& means, double errors) {
      const double n = static_cast<double>(x.numel()) / static_cast<double>(means.numel());
      const double error = (means - (1 - probability)).abs().max().item<double>();
      EXPECT_LT(error, errors * std::sqrt(probability * (1 - probability) / n)) << probability << " " << n;
    };
    const at::Tensor parts = kept.to(at::kDouble);
    expect_part(parts.mean(), 5);
    expect_part(parts.mean(std::vector<int64_t>{1, 2}), 5);
    expect_part(parts.mean(std::vector<int64_t>{0, 2}), 6);
    expect_part(parts.mean(std::vector<int64_t>{0, 1}), 6);
    // Neighbours know nothing of each other.
    const at::Tensor centred = (parts - (1 - probability)).flatten();
    for (const int64_t apart : {1, 2, 250, 75'000}) {
      const at::Tensor products = centred.slice(0, apart) * centred.slice(0, 0, -apart);
      const double correlation = products.mean().item<double>() / (probability * (1 - probability));
      EXPECT_LT(std::abs(correlation), 5 / std::sqrt(static_cast<double>(products.numel()))) << apart;
    }
  }
}

TEST(Dropout, AMaskIsAFunctionOfSeedStepRowLayerAndPlace) {
  const at::Tensor x = at::ones({3, 40, 16});
  const at::Tensor first = of_step(3)(x, Place::kMlp);
  EXPECT_TRUE(at::equal(of_step(3)(x, Place::kMlp), first));
  const std::vector<at::Tensor> others{of_step(4)(x, Place::kMlp),
                                       of_step(3).of_layer(0)(x, Place::kMlp),
                                       of_step(3).of_layer(1)(x, Place::kMlp),
                                       of_step(3)(x, Place::kAttention),
                                       of_step(3)(x, Place::kEmbeddings),
                                       Dropout(0.3, {dropout_key(8, 3)})(x, Place::kMlp),
                                       first.roll(1, 0),
                                       first.roll(1, 1)};
  for (size_t i = 0; i < others.size(); ++i) {
    const double same = others[i].eq(first).to(at::kDouble).mean().item<double>();
    EXPECT_NEAR(same, 0.7 * 0.7 + 0.3 * 0.3, 0.06) << i;  // 5 standard errors
  }
  // The rows of a step, however they are split into batches.
  EXPECT_TRUE(at::equal(of_step(3, 0.3, 2)(x.slice(0, 2), Place::kMlp), first.slice(0, 2)));
}

TEST(Dropout, NeitherThreadsNorStridesNorTypesChangeAMask) {
  const int threads = at::get_num_threads();
  const at::Tensor x = at::randn({2, 500, 64}) + 10;
  at::set_num_threads(1);
  const at::Tensor one = of_step(3)(x, Place::kMlp);
  at::set_num_threads(2);
  EXPECT_TRUE(at::equal(of_step(3)(x, Place::kMlp), one));
  EXPECT_TRUE(at::equal(of_step(3)(x.transpose(1, 2).contiguous().transpose(1, 2), Place::kMlp), one));
  for (const at::ScalarType type : {at::kDouble, at::kBFloat16, at::kHalf}) {
    const at::Tensor y = of_step(3)(x.to(type), Place::kMlp);
    EXPECT_EQ(y.scalar_type(), type);
    EXPECT_TRUE(at::equal(y.ne(0), one.ne(0))) << type;
  }
  at::set_num_threads(threads);
  EXPECT_EQ(of_step(3)(at::zeros({0, 5, 4}), Place::kMlp).sizes(), at::IntArrayRef({0, 5, 4}));
  EXPECT_EQ(of_step(3)(at::zeros({2, 0, 4}), Place::kMlp).sizes(), at::IntArrayRef({2, 0, 4}));
}

TEST(Dropout, NoGradientGoesThroughWhatWasDropped) {
  const at::Tensor x = (at::randn({2, 30, 8}) + 10).requires_grad_(), weight = at::randn({2, 30, 8});
  const at::Tensor y = of_step(3)(x, Place::kMlp);
  (y * weight).sum().backward();
  EXPECT_TRUE(at::equal(x.grad(), weight * y.ne(0) * static_cast<float>(1 / 0.7)));
}

TEST(Dropout, KeepsNothingForBackward) {
  const auto meter = memory::MemoryMeter::install();
  const at::Tensor x = at::ones({2, 500, 64}).requires_grad_();
  at::Tensor sum = at::zeros({2, 500, 64});
  const int64_t before = meter.live();
  sum = sum + of_step(3)(x, Place::kMlp);
  EXPECT_EQ(meter.live(), before);
}

TEST(Dropout, ActsInTheModelWithAKeyAlone) {
  for (const char* family : {"gpt-neox", "gpt2", "llama"}) {
    ModelConfig config = of_family(family);
    Transformer plain(config);
    config.dropout = 0.25;
    Transformer model(config);
    randomise(*plain);
    randomise(*model);
    const at::Tensor tokens = at::randint(11, {2, 20}, at::kLong), where = at::arange(20).expand({2, 20}).contiguous();
    const DropoutKey key{.step = dropout_key(1, 2)};
    EXPECT_TRUE(at::equal(model->hidden(tokens, where), plain->hidden(tokens, where))) << family;
    EXPECT_TRUE(at::equal(plain->hidden(tokens, where, {}, key), plain->hidden(tokens, where))) << family;
    const at::Tensor dropped = model->hidden(tokens, where, {}, key);
    EXPECT_GT(relative(dropped, plain->hidden(tokens, where)), 0.1) << family;
    EXPECT_TRUE(at::equal(model->hidden(tokens, where, {}, key), dropped)) << family;
    EXPECT_FALSE(at::equal(model->hidden(tokens, where, {}, DropoutKey{.step = dropout_key(1, 3)}), dropped)) << family;
  }
}

// Embeddings once, attention and MLP in each layer, each with a mask of its own.
TEST(Dropout, BlocksAreToldTheirLayer) {
  ModelConfig config = of_family("gpt2");
  config.dropout = 0.5;
  Layers layers = local_layers();
  std::vector<at::Tensor> sums;  // of both masks of each layer, if what they drop is 1 everywhere
  layers.arrange = [&](const std::vector<BlockParts>& blocks) {
    std::vector<BlockForward> all;
    for (const BlockParts& block : blocks) {
      all.emplace_back([&sums, block](const at::Tensor& x, const BlockContext& context) {
        const at::Tensor zeros = at::zeros({1, 20, 6, 8});
        sums.push_back(block.finish(x * 0, zeros, context).detach());
        const at::Tensor last = block.finish(x.narrow(1, 7, 13) * 0, zeros.narrow(1, 7, 13), context.narrow(7, 13));
        EXPECT_TRUE(at::equal(last, sums.back().narrow(1, 7, 13)));
        return x;
      });
    }
    return all;
  };
  Transformer model(config, layers);
  {
    const at::NoGradGuard no_grad;
    for (auto& entry : model->named_parameters()) {
      const std::string& name = entry.key();
      entry.value().fill_(name.ends_with("attention.dense.bias") || name.ends_with("dense_4h_to_h.bias") ? 1 : 0);
    }
  }
  const at::Tensor tokens = at::zeros({1, 20}, at::kLong), where = at::arange(20).unsqueeze(0);
  (void)model->hidden(tokens, where, {}, DropoutKey{});
  ASSERT_EQ(sums.size(), 2u);
  EXPECT_FALSE(at::equal(sums[0], sums[1]));
  for (const at::Tensor& sum : sums) {
    EXPECT_NEAR(sum.eq(2).to(at::kDouble).mean().item<double>(), 0.5, 0.1) << "attention and MLP share a mask";
  }
}

}  // namespace
}  // namespace longfold::model
