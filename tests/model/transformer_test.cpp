#include "longfold/model/transformer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/function.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "longfold/base/error.h"
#include "longfold/memory/meter.h"

namespace longfold::model {
namespace {

ModelConfig small() {
  return {.vocab_size = 11, .num_layers = 2, .hidden_size = 32, .num_heads = 4, .ffn_size = 48, .init_std = 0.2};
}

at::Tensor positions(int64_t S) {
  return at::arange(S).unsqueeze(0);
}

TEST(Transformer, ParametersAreNamedAndShapedAsHuggingFaceHasThem) {
  ModelConfig config = small();
  config.num_layers = 1;
  const Transformer model(config);
  std::vector<std::string> found;
  for (const auto& entry : model->named_parameters()) {
    std::string line = entry.key();
    for (const int64_t size : entry.value().sizes()) line.append(" ").append(std::to_string(size));
    found.push_back(line);
  }
  EXPECT_EQ(found, (std::vector<std::string>{
                       "gpt_neox.embed_in.weight 11 32",
                       "gpt_neox.layers.0.input_layernorm.weight 32",
                       "gpt_neox.layers.0.input_layernorm.bias 32",
                       "gpt_neox.layers.0.post_attention_layernorm.weight 32",
                       "gpt_neox.layers.0.post_attention_layernorm.bias 32",
                       "gpt_neox.layers.0.attention.query_key_value.weight 96 32",
                       "gpt_neox.layers.0.attention.query_key_value.bias 96",
                       "gpt_neox.layers.0.attention.dense.weight 32 32",
                       "gpt_neox.layers.0.attention.dense.bias 32",
                       "gpt_neox.layers.0.mlp.dense_h_to_4h.weight 48 32",
                       "gpt_neox.layers.0.mlp.dense_h_to_4h.bias 48",
                       "gpt_neox.layers.0.mlp.dense_4h_to_h.weight 32 48",
                       "gpt_neox.layers.0.mlp.dense_4h_to_h.bias 32",
                       "gpt_neox.final_layer_norm.weight 32",
                       "gpt_neox.final_layer_norm.bias 32",
                       "embed_out.weight 11 32",
                   }));
  EXPECT_TRUE(model->named_buffers().is_empty());
}

TEST(Transformer, HasAsManyParametersAsTheFormulaSays) {
  for (const auto& [layers, hidden, heads, ffn, vocab] :
       std::vector<std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t>>{
           {1, 8, 1, 8, 2}, {3, 32, 4, 48, 11}, {2, 96, 6, 100, 69}}) {
    const ModelConfig config{
        .vocab_size = vocab, .num_layers = layers, .hidden_size = hidden, .num_heads = heads, .ffn_size = ffn};
    int64_t count = 0;
    const Transformer model(config);
    for (const at::Tensor& value : model->parameters()) count += value.numel();
    EXPECT_EQ(count, config.num_parameters());
  }
}

TEST(Transformer, RefusesABadConfig) {
  ModelConfig config = small();
  config.num_heads = 5;
  EXPECT_THROW(Transformer{config}, base::UserError);
}

TEST(Transformer, ATokenChangesNothingBeforeItAndSomethingFromItOn) {
  constexpr int64_t S = 70;
  Transformer model(small());
  model->initialise(3);
  const at::Tensor tokens = at::randint(11, {1, S}, at::kLong);
  const at::Tensor before = model->hidden(tokens, positions(S));
  for (const int64_t t : {int64_t{0}, int64_t{1}, int64_t{33}, S - 1}) {
    at::Tensor changed = tokens.clone();
    changed[0][t] = (changed[0][t] + 1) % 11;
    const at::Tensor after = model->hidden(changed, positions(S));
    EXPECT_TRUE(at::equal(after.slice(1, 0, t), before.slice(1, 0, t))) << t;
    const at::Tensor moved = (after - before).abs().amax(-1)[0].slice(0, t);
    EXPECT_GT(moved.min().item<float>(), 0) << t;
  }
}

TEST(Transformer, OnlyDistancesBetweenPositionsMatter) {
  Transformer model(small());
  model->initialise(3);
  const at::Tensor tokens = at::randint(11, {1, 40}, at::kLong);
  const at::Tensor here = model->hidden(tokens, positions(40));
  EXPECT_LT((model->hidden(tokens, positions(40) + 1'000'000) - here).abs().max().item<double>(), 1e-4);
  EXPECT_GT((model->hidden(tokens, positions(40) * 2) - here).abs().max().item<double>(), 1e-3);
}

TEST(Transformer, RowsOfABatchDoNotMix) {
  Transformer model(small());
  model->initialise(3);
  const at::Tensor tokens = at::randint(11, {3, 19}, at::kLong);
  const at::Tensor together = model->hidden(tokens, positions(19).expand({3, 19}));
  for (int64_t b = 0; b < 3; ++b) {
    const at::Tensor alone = model->hidden(tokens.slice(0, b, b + 1), positions(19));
    EXPECT_LT((together.slice(0, b, b + 1) - alone).abs().max().item<double>(), 1e-5);
  }
  EXPECT_GT((together[0] - together[1]).abs().max().item<double>(), 0.1);
}

// Packed documents: positions restart, and nothing of one reaches another, bit for bit.
TEST(Transformer, DocumentsOfARowDoNotMix) {
  for (const char* family : {"gpt-neox", "gpt2", "llama"}) {
    ModelConfig config = small();
    apply_names(config, "", family);
    if (config.has_learned_positions()) config.max_positions = 32;
    if (config.activation == "swiglu") config.num_kv_heads = 2;
    Transformer model(config);
    model->initialise(3);
    const at::Tensor tokens = at::randint(11, {2, 40}, at::kLong);
    const at::Tensor where = at::cat({positions(12), positions(28)}, 1).expand({2, 40}).contiguous();
    const at::Tensor documents = at::tensor({0, 12, 40, 52, 80}, at::kLong);
    const at::Tensor packed = model->logits(tokens, where, documents);
    const at::Tensor alone = model->logits(tokens.slice(1, 12), where.slice(1, 12).contiguous());
    EXPECT_LT((packed.slice(1, 12) - alone).abs().max().item<double>(), 1e-5) << family;
    at::Tensor other = tokens.clone();
    other.slice(1, 0, 12).add_(3).remainder_(11);
    const at::Tensor changed = model->logits(other, where, documents);
    EXPECT_TRUE(at::equal(changed.slice(1, 12), packed.slice(1, 12))) << family;
    EXPECT_FALSE(at::equal(changed.slice(1, 0, 12), packed.slice(1, 0, 12))) << family;
    // Without documents the first would be seen.
    EXPECT_FALSE(at::equal(model->logits(other, where).slice(1, 12), model->logits(tokens, where).slice(1, 12)));
  }
}

TEST(Transformer, OneTokenIsEnough) {
  Transformer model(small());
  model->initialise(3);
  const at::Tensor one = at::full({1, 1}, 4, at::kLong);
  const at::Tensor loss = model->token_losses(one, one, positions(1));
  const at::Tensor scores = model->logits(one, positions(1)).log_softmax(-1);
  EXPECT_NEAR(loss.item<double>(), -scores[0][0][4].item<double>(), 1e-6);
}

TEST(Transformer, AnIgnoredLabelGivesNoLossAndNoGradient) {
  Transformer model(small());
  model->initialise(3);
  const at::Tensor tokens = at::randint(11, {1, 6}, at::kLong);
  model->token_losses(tokens, at::full({1, 6}, kIgnoredLabel, at::kLong), positions(6)).sum().backward();
  for (const at::Tensor& value : model->parameters()) EXPECT_EQ(value.grad().abs().max().item<double>(), 0);
}

// The bytes that one more block keeps alive between forward and backward.
int64_t kept_by_a_block(ModelConfig config, int64_t S) {
  const auto meter = memory::MemoryMeter::install();
  int64_t kept[2];
  for (int64_t i = 0; i < 2; ++i) {
    config.num_layers = i + 1;
    Transformer model(config);
    const at::Tensor tokens = at::zeros({1, S}, at::kLong), where = positions(S);
    const int64_t before = meter.live();
    const at::Tensor hidden = model->hidden(tokens, where);
    kept[i] = meter.live() - before;
  }
  return kept[1] - kept[0];
}

TEST(Transformer, ABlockKeepsExactlyWhatBackwardNeeds) {
  constexpr int64_t S = 100;
  ModelConfig config = small();
  const int64_t h = config.hidden_size, f = config.ffn_size, H = config.num_heads;
  // input, two layer norms, q k v, attention output; before and after GELU; statistics of the norms; log-sum-exp
  EXPECT_EQ(kept_by_a_block(config, S), 4 * S * (7 * h + 2 * f + 4 + H));
  config.parallel_residual = false;  // the second norm reads a sum of its own
  EXPECT_EQ(kept_by_a_block(config, S), 4 * S * (8 * h + 2 * f + 4 + H));
}

TEST(Transformer, LossesAndGradientsAreTheSameBitsEveryTime) {
  Transformer model(small());
  model->initialise(3);
  const at::Tensor tokens = at::randint(11, {2, 300}, at::kLong), where = positions(300).expand({2, 300});
  std::vector<at::Tensor> first;
  for (int repeat = 0; repeat < 5; ++repeat) {
    model->zero_grad();
    const at::Tensor losses = model->token_losses(tokens, tokens, where);
    losses.sum().backward();
    std::vector<at::Tensor> bits{losses.detach()};
    for (const at::Tensor& value : model->parameters()) bits.push_back(value.grad().clone());
    if (repeat == 0) first = bits;
    for (size_t i = 0; i < bits.size(); ++i) EXPECT_TRUE(at::equal(bits[i], first[i])) << repeat << " " << i;
  }
  EXPECT_GT(first[1].abs().max().item<double>(), 0);
}

TEST(Transformer, TwoInOneProcessDoNotMeet) {
  const at::Tensor tokens = at::randint(11, {2, 33}, at::kLong), where = positions(33).expand({2, 33}).contiguous();
  const auto step = [&](Transformer& model) {
    model->zero_grad();
    const at::Tensor losses = model->token_losses(tokens, tokens, where);
    losses.sum().backward();
    std::vector<at::Tensor> bits{losses.detach()};
    for (const at::Tensor& value : model->parameters()) bits.push_back(value.grad().clone());
    return bits;
  };
  Transformer model(small());
  model->initialise(3);
  const std::vector<at::Tensor> alone = step(model);
  ModelConfig config = small();
  apply_names(config, "", "llama");
  config.num_layers = 3, config.hidden_size = 48, config.rotary_base = 100;
  Transformer other(config);
  other->initialise(4);
  const std::vector<at::Tensor> of_other = step(other), beside = step(model), of_other_again = step(other);
  for (size_t i = 0; i < alone.size(); ++i) EXPECT_TRUE(at::equal(beside[i], alone[i])) << i;
  for (size_t i = 0; i < of_other.size(); ++i) EXPECT_TRUE(at::equal(of_other_again[i], of_other[i])) << i;
}

TEST(Transformer, RefusesTensorsOfOtherShapesAndTypes) {
  Transformer model(small());
  const at::Tensor tokens = at::zeros({2, 5}, at::kLong);
  EXPECT_THROW(model->hidden(tokens, positions(5)), c10::Error);
  EXPECT_THROW(model->hidden(tokens.to(at::kInt), tokens), c10::Error);
  EXPECT_THROW(model->hidden(tokens + 11, tokens), c10::Error);
  EXPECT_THROW(model->token_losses(tokens, tokens.slice(1, 1), tokens), c10::Error);
  EXPECT_THROW(model->token_losses(tokens, tokens + 11, tokens), c10::Error);
}

TEST(Transformer, RefusesPositionsBeyondTheTable) {
  ModelConfig config = small();
  apply_names(config, "", "gpt2");
  config.max_positions = 5;
  Transformer model(config);
  const at::Tensor tokens = at::zeros({1, 5}, at::kLong);
  EXPECT_NO_THROW(model->hidden(tokens, positions(5)));
  try {
    (void)model->hidden(tokens, positions(5) + 1);
    FAIL();
  } catch (const c10::Error& error) {
    EXPECT_STREQ(error.what_without_backtrace(),
                 "[transformer] expected positions below model.max_positions, which is 5, got 5");
  }
}

at::Tensor parameter(const Transformer& model, const std::string& name) {
  return model->named_parameters()[name];
}

TEST(Initialise, DependsOnSeedAndNameOnly) {
  const int threads = at::get_num_threads();
  ModelConfig config = small();
  config.hidden_size = 128;
  config.ffn_size = 512;
  Transformer first(config), second(config), other_seed(config);
  at::set_num_threads(1);
  first->initialise(5);
  at::set_num_threads(2);
  at::manual_seed(99);
  second->initialise(5);
  at::set_num_threads(threads);
  other_seed->initialise(6);
  config.num_layers = 1;
  Transformer shallower(config);
  shallower->initialise(5);
  for (const auto& entry : first->named_parameters()) {
    EXPECT_TRUE(at::equal(entry.value(), parameter(second, entry.key()))) << entry.key();
    if (entry.value().dim() == 2) {
      EXPECT_FALSE(at::equal(entry.value(), parameter(other_seed, entry.key()))) << entry.key();
    }
  }
  const std::string name = "gpt_neox.layers.0.mlp.dense_h_to_4h.weight";
  EXPECT_TRUE(at::equal(parameter(first, name), parameter(shallower, name)));
  EXPECT_FALSE(at::equal(parameter(first, name), parameter(first, "gpt_neox.layers.1.mlp.dense_h_to_4h.weight")));
}

TEST(Initialise, HasTheAskedSpread) {
  ModelConfig config = small();
  config.hidden_size = 256;
  config.ffn_size = 256;
  Transformer model(config);
  model->initialise(1);
  std::set<std::string> beginnings;
  for (const auto& entry : model->named_parameters()) {
    const std::string& name = entry.key();
    const at::Tensor& value = entry.value();
    if (name.ends_with(".bias")) {
      EXPECT_EQ(value.abs().max().item<double>(), 0) << name;
    } else if (value.dim() == 1) {
      EXPECT_EQ(value.min().item<double>(), 1) << name;
      EXPECT_EQ(value.max().item<double>(), 1) << name;
    } else {
      const bool residual = name.ends_with("attention.dense.weight") || name.ends_with("dense_4h_to_h.weight");
      const double expected = residual ? 0.2 / 2 : 0.2;  // two layers: sqrt(4)
      // The standard error of a spread from n values is 1 / sqrt(2 n) of it, that of a mean 1 / sqrt(n): 5 of each.
      const double n = static_cast<double>(value.numel());
      EXPECT_NEAR(value.std().item<double>() / expected, 1, 5 / std::sqrt(2 * n)) << name;
      EXPECT_NEAR(value.mean().item<double>() / expected, 0, 5 / std::sqrt(n)) << name;
      EXPECT_TRUE(beginnings.insert(std::to_string(value[0][0].item<double>() / expected)).second) << name;
    }
  }
}

class CountedCore final : public AttentionCore {
 public:
  CountedCore(SharedCore core, int& calls) : core_(std::move(core)), calls_(calls) {}
  [[nodiscard]] Attended forward(const Qkv& qkv, const Documents& documents, bool causal) const override {
    return ++calls_, core_->forward(qkv, documents, causal);
  }
  [[nodiscard]] Qkv backward(const at::Tensor& grad_out, const Qkv& qkv, const Attended& attended,
                             const Documents& documents, bool causal) const override {
    return core_->backward(grad_out, qkv, attended, documents, causal);
  }

 private:
  SharedCore core_;
  int& calls_;
};

TEST(LayersSeam, EveryPieceComesFromTheLayers) {
  Layers layers = local_layers();
  int columns = 0, rows = 0, embeddings = 0, attentions = 0, arranged = 0, blocks_run = 0, heads = 0, losses = 0;
  const Layers local = local_layers();
  layers.column_linear = [&](int64_t in, int64_t out, bool bias) {
    return ++columns, local.column_linear(in, out, bias);
  };
  layers.row_linear = [&](int64_t in, int64_t out, bool bias) { return ++rows, local.row_linear(in, out, bias); };
  layers.embedding = [&](int64_t vocab, int64_t hidden) { return ++embeddings, local.embedding(vocab, hidden); };
  layers.attention = std::make_shared<CountedCore>(local.attention, attentions);
  layers.logits = [&](auto& hidden, auto& head) { return ++heads, local.logits(hidden, head); };
  layers.loss = [&](auto& hidden, auto& head, auto& labels) { return ++losses, local.loss(hidden, head, labels); };
  layers.arrange = [&](const std::vector<BlockParts>& blocks) {
    arranged += static_cast<int>(blocks.size());
    EXPECT_EQ(blocks[0].module->parameters().size(), 12u);
    std::vector<BlockForward> all = local.arrange(blocks);
    for (BlockForward& block : all) {
      block = [&, block](const at::Tensor& x, const BlockContext& context) { return ++blocks_run, block(x, context); };
    }
    return all;
  };
  Transformer model(small(), layers);
  model->initialise(1);
  EXPECT_EQ(columns, 2 * 2 + 1);
  EXPECT_EQ(rows, 2 * 2);
  EXPECT_EQ(embeddings, 1);
  EXPECT_EQ(arranged, 2);
  const at::Tensor tokens = at::zeros({1, 3}, at::kLong);
  model->token_losses(tokens, tokens, positions(3));
  EXPECT_EQ(attentions, 2);
  EXPECT_EQ(blocks_run, 2);
  EXPECT_EQ(losses, 1);
  EXPECT_EQ(heads, 0) << "the loss has its own";
  EXPECT_EQ(model->logits(tokens, positions(3)).sizes(), at::IntArrayRef({1, 3, 11}));
  EXPECT_EQ(heads, 1);
}

// Tied or not, scores are a product by the engine of all others.
TEST(LayersSeam, TheHeadIsAProductByTheEngine) {
  for (const bool tied : {false, true}) {
    ModelConfig config = small();
    config.tie_embeddings = tied;
    for (const LinearEngine engine : {LinearEngine::kTorch, LinearEngine::kOnednn}) {
      Transformer model(config, local_layers({.linear = engine}));
      model->initialise(3);
      const at::Tensor tokens = at::randint(11, {1, 6}, at::kLong);
      const at::Tensor logits = model->logits(tokens, positions(6));
      const std::string made_by = logits.grad_fn()->name();
      EXPECT_EQ(made_by.find("OnednnLinear") != std::string::npos, engine == LinearEngine::kOnednn) << made_by;
      const at::Tensor head = parameter(model, tied ? "gpt_neox.embed_in.weight" : "embed_out.weight");
      EXPECT_TRUE(at::equal(logits, linear(model->hidden(tokens, positions(6)), head, {}, engine))) << tied;
    }
  }
}

}  // namespace
}  // namespace longfold::model
