// The model against the oracle: hidden states, losses and the gradient of every parameter, within 1e-5 of the largest
// reference value; and models that are a little wrong, which must not pass.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>

#include "oracle.h"
#include "tests/model/small_models.h"

namespace longfold::model {
namespace {

constexpr double kTolerance = 1e-5;

ModelConfig small(bool parallel_residual, double rotary_pct) {
  return {.vocab_size = 11,
          .num_layers = 2,
          .hidden_size = 48,
          .num_heads = 3,
          .ffn_size = 40,
          .parallel_residual = parallel_residual,
          .rotary_pct = rotary_pct,
          .rotary_base = 100};
}

struct Batch {
  at::Tensor tokens, labels, positions, weights;
};

// Two rows; positions restart in the middle of the second; one label is ignored.
Batch make_batch(int64_t S) {
  Batch batch{at::randint(11, {2, S}, at::kLong), at::randint(11, {2, S}, at::kLong),
              at::arange(S).expand({2, S}).clone(), at::rand({2, S}, at::kDouble) + 0.5};
  batch.positions[1].slice(0, S / 2) -= S / 2;
  if (S > 1) batch.labels[0][S - 1] = kIgnoredLabel;
  return batch;
}

struct Difference {
  double outputs = 0, gradients = 0;
  std::string worst;
};

// `model`, whose parameters may be `mutated` after the oracle has read them, against the oracle for `config`.
Difference compare(const ModelConfig& config, Transformer& model, const Batch& batch,
                   const std::function<void(TransformerImpl&)>& mutate = {}) {
  Parameters parameters;
  for (const auto& entry : model->named_parameters()) {
    parameters[entry.key()] = entry.value().detach().to(at::kDouble).requires_grad_();
  }
  if (mutate) mutate(*model);
  const OracleOutput expected = oracle(config, parameters, batch.tokens, batch.labels, batch.positions);
  (expected.losses * batch.weights).sum().backward();
  const at::Tensor losses = model->token_losses(batch.tokens, batch.labels, batch.positions);
  EXPECT_EQ(losses.scalar_type(), at::kFloat);
  EXPECT_EQ(losses.sizes(), batch.tokens.sizes());
  (losses * batch.weights).sum().backward();

  Difference difference;
  difference.outputs = std::max(relative(losses, expected.losses),
                                relative(model->hidden(batch.tokens, batch.positions), expected.hidden));
  for (const auto& entry : model->named_parameters()) {
    const double error =
        entry.value().grad().defined() ? relative(entry.value().grad(), parameters.at(entry.key()).grad()) : INFINITY;
    if (!(error <= difference.gradients)) difference.gradients = error, difference.worst = entry.key();
  }
  return difference;
}

class Oracle : public testing::TestWithParam<std::tuple<bool, double, int64_t>> {};

TEST_P(Oracle, HiddenLossesAndEveryGradientAgree) {
  const auto [parallel_residual, rotary_pct, S] = GetParam();
  at::manual_seed(1);
  const ModelConfig config = small(parallel_residual, rotary_pct);
  Transformer model(config);
  randomise(*model);
  const Difference difference = compare(config, model, make_batch(S));
  EXPECT_LT(difference.outputs, kTolerance);
  EXPECT_LT(difference.gradients, kTolerance) << difference.worst;
}

INSTANTIATE_TEST_SUITE_P(Shapes, Oracle,
                         testing::Combine(testing::Bool(), testing::Values(0.25, 1.0), testing::Values(2, 37, 130)));

// The other families, and keys that none of them has; heads in groups of 2, 3 or 6 where they share keys.
TEST(OracleOfFamilies, HiddenLossesAndEveryGradientAgree) {
  const std::vector<std::pair<const char*, ModelConfig>> configs{
      {"gpt2", of_family("gpt2")},
      {"gpt2 with a head", of_family("gpt2", [](ModelConfig& c) { c.tie_embeddings = false; })},
      {"llama", of_family("llama")},
      {"llama, 3 heads of keys", of_family("llama", [](ModelConfig& c) { c.num_kv_heads = 3; })},
      {"llama, 1 head of keys", of_family("llama", [](ModelConfig& c) { c.num_kv_heads = 1; })},
      {"llama, scaled", of_family("llama", [](ModelConfig& c) { c.num_kv_heads = 2, c.rotary_scaling = 4; })},
      {"gpt-neox, gelu by erf", of_family("gpt-neox", [](ModelConfig& c) { c.activation = "gelu"; })},
      {"gpt-neox, tied", of_family("gpt-neox", [](ModelConfig& c) { c.tie_embeddings = true; })},
  };
  for (const auto& [name, config] : configs) {
    at::manual_seed(1);
    Transformer model(config);
    randomise(*model);
    int64_t count = 0;
    for (const at::Tensor& value : model->parameters()) count += value.numel();
    EXPECT_EQ(count, config.num_parameters()) << name;
    const Difference difference = compare(config, model, make_batch(37));
    EXPECT_LT(difference.outputs, kTolerance) << name;
    EXPECT_LT(difference.gradients, kTolerance) << name << " " << difference.worst;
  }
}

TEST(OracleOfFamilies, AnotherFamilysKeyDoesNotPass) {
  const auto expect_wrong = [](const char* what, const ModelConfig& config,
                               const std::function<void(ModelConfig&)>& change) {
    ModelConfig changed = config;
    change(changed);
    at::manual_seed(1);
    Transformer model(changed);
    randomise(*model);
    EXPECT_GT(compare(config, model, make_batch(37)).outputs, 10 * kTolerance) << what;
  };
  const ModelConfig llama = of_family("llama", [](ModelConfig& c) { c.num_kv_heads = 3; });
  expect_wrong("scaling", llama, [](ModelConfig& c) { c.rotary_scaling = 1.01; });
  expect_wrong("epsilon", llama, [](ModelConfig& c) { c.norm_epsilon = 1e-3; });
  expect_wrong("residual", llama, [](ModelConfig& c) { c.parallel_residual = true; });
  expect_wrong("activation", of_family("gpt2"), [](ModelConfig& c) { c.activation = "gelu"; });
}

struct Mutation {
  const char* name;
  std::function<void(ModelConfig&)> config = [](ModelConfig&) {};
  std::function<void(Layers&)> layers = [](Layers&) {};
  std::function<void(TransformerImpl&)> parameters = {};
  bool only_gradients = false;
};

at::Tensor parameter(TransformerImpl& model, const std::string& name) {
  return model.named_parameters()[name].data();
}

at::Tensor attend(const Documents& documents, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  return model::attend(local_layers().attention, {q, k, v}, documents);
}

const std::vector<Mutation> kMutations{
    {.name = "sequential instead of parallel residual", .config = [](ModelConfig& c) { c.parallel_residual = false; }},
    {.name = "twice the rotated dimensions", .config = [](ModelConfig& c) { c.rotary_pct = 0.5; }},
    {.name = "no rotation", .config = [](ModelConfig& c) { c.rotary_scaling = 1e9; }},
    {.name = "another rotary base", .config = [](ModelConfig& c) { c.rotary_base = 101; }},
    {.name = "another epsilon", .config = [](ModelConfig& c) { c.norm_epsilon = 1e-3; }},
    {.name = "a wrong scale of the scores",
     .layers =
         [](Layers& l) {
           l.arrange = with_attention(
               [](auto& q, auto& k, auto& v, auto& documents) { return attend(documents, q * 1.001, k, v); });
         }},
    {.name = "keys and queries exchanged",
     .layers =
         [](Layers& l) {
           l.arrange =
               with_attention([](auto& q, auto& k, auto& v, auto& documents) { return attend(documents, k, q, v); });
         }},
    {.name = "attention that returns zeros",
     .layers = [](Layers& l) { l.arrange = with_attention([](auto& q, auto&, auto&, auto&) { return q * 0; }); }},
    {.name = "attention that sees the future",
     .layers =
         [](Layers& l) {
           l.arrange = with_attention([](auto& q, auto& k, auto& v, auto&) {
             return at::scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
                 .transpose(1, 2);
           });
         }},
    {.name = "values without a gradient",
     .layers =
         [](Layers& l) {
           l.arrange = with_attention(
               [](auto& q, auto& k, auto& v, auto& documents) { return attend(documents, q, k, v.detach()); });
         },
     .only_gradients = true},
    {.name = "keys without a gradient",
     .layers =
         [](Layers& l) {
           l.arrange = with_attention(
               [](auto& q, auto& k, auto& v, auto& documents) { return attend(documents, q, k.detach(), v); });
         },
     .only_gradients = true},
    {.name = "a block left out",
     .layers =
         [](Layers& l) {
           l.arrange = [](const std::vector<BlockParts>& blocks) { return arrange_plainly({blocks.front()}); };
         }},
    {.name = "a loss that forgets the ignored label",
     .layers =
         [](Layers& l) {
           l.loss = [loss = l.loss](auto& hidden, auto& head, auto& labels) {
             return loss(hidden, head, labels.clamp_min(0));
           };
         }},
    {.name = "one bias of the projection off",
     .parameters =
         [](TransformerImpl& m) { parameter(m, "gpt_neox.layers.1.attention.query_key_value.bias")[3] += 0.01; }},
    {.name = "query, key and value rows not per head",
     .parameters =
         [](TransformerImpl& m) {
           at::Tensor weight = parameter(m, "gpt_neox.layers.0.attention.query_key_value.weight");
           weight.copy_(weight.view({3, 3, 16, 48}).transpose(0, 1).reshape({144, 48}));
         }},
};

TEST(OracleMutations, AModelThatIsALittleWrongDoesNotPass) {
  for (const Mutation& mutation : kMutations) {
    at::manual_seed(1);
    const ModelConfig config = small(true, 0.25);
    ModelConfig changed = config;
    mutation.config(changed);
    Layers layers = local_layers();
    mutation.layers(layers);
    Transformer model(changed, layers);
    randomise(*model);
    const Difference difference = compare(config, model, make_batch(37), mutation.parameters);
    EXPECT_GT(difference.gradients, 10 * kTolerance) << mutation.name;
    if (mutation.only_gradients)
      EXPECT_LT(difference.outputs, kTolerance) << mutation.name;
    else
      EXPECT_GT(difference.outputs, 10 * kTolerance) << mutation.name;
  }
}

TEST(OracleMutations, WrongPositionsDoNotPass) {
  at::manual_seed(1);
  const ModelConfig config = small(true, 1);
  Transformer model(config);
  randomise(*model);
  const Batch batch = make_batch(37);
  const at::Tensor right = model->hidden(batch.tokens, batch.positions);
  const at::Tensor no_restart = model->hidden(batch.tokens, at::arange(37).expand({2, 37}));
  EXPECT_TRUE(at::equal(right[0], no_restart[0]));
  EXPECT_GT(relative(no_restart[1], right[1]), 10 * kTolerance);
}

}  // namespace
}  // namespace longfold::model
