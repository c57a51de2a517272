// Every gradient of a small model of each family against central differences, in fp64 and with nothing of the oracle's:
// along the gradient, along random directions and along single elements. And the gradients in fp32, which go through
// the fast kernels, against those in fp64.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/model/small_models.h"

namespace longfold::model {
namespace {

// Of the norm of a parameter's gradient; differences of fourth order miss about 1e-11 of it.
constexpr double kTolerance = 1e-8;

struct Case {
  std::string name;
  ModelConfig config;
  bool has_documents = false;
  std::optional<DropoutKey> dropout = {};
};

std::vector<Case> cases() {
  const std::vector<std::pair<const char*, ModelConfig>> configs{
      {"gpt-neox", of_family("gpt-neox", [](ModelConfig& c) { c.rotary_pct = 0.5; })},
      {"gpt-neox, one after the other", of_family("gpt-neox", [](ModelConfig& c) { c.parallel_residual = false; })},
      {"gpt2", of_family("gpt2")},
      {"llama", of_family("llama", [](ModelConfig& c) { c.num_kv_heads = 2, c.rotary_scaling = 4; })},
  };
  std::vector<Case> all;
  for (const auto& [name, config] : configs) {
    for (const bool has_documents : {false, true}) {
      Case one{name + std::string(has_documents ? ", packed" : ""), config, has_documents};
      one.config.num_layers = 1;  // which saves time: the gradients of more are in the oracle's test
      one.config.hidden_size = 32, one.config.num_heads = 4, one.config.ffn_size = 20;
      all.push_back(one);
    }
  }
  all.push_back(all.front());
  all.back().name += ", dropout";
  all.back().config.dropout = 0.3;
  all.back().dropout = {.step = 5};
  return all;
}

struct Problem {
  at::Tensor tokens, labels, positions, weights;
  std::optional<DropoutKey> dropout;
  std::optional<at::Tensor> documents = {};
};

// Two rows of 13 tokens; packed, of documents of 5, 1 and 7, and of 8 and 5.
Problem problem_of(const Case& one) {
  at::manual_seed(2);
  Problem problem{at::randint(11, {2, 13}, at::kLong), at::randint(11, {2, 13}, at::kLong),
                  at::arange(13).expand({2, 13}).clone(), at::rand({2, 13}, at::kDouble) + 0.5, one.dropout};
  problem.labels[1][3] = kIgnoredLabel;
  if (!one.has_documents) return problem;
  problem.documents = at::tensor({0, 5, 6, 13, 21, 26}, at::kLong);
  problem.positions =
      at::tensor({0, 1, 2, 3, 4, 0, 0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4}, at::kLong)
          .view({2, 13});
  return problem;
}

at::Tensor loss_of(Transformer& model, const Problem& p) {
  return (model->token_losses(p.tokens, p.labels, p.positions, p.documents, p.dropout) * p.weights).sum();
}

// The derivative of the loss by t, where `parameter` is what it is plus t times `direction`.
double difference(Transformer& model, const Problem& problem, const at::Tensor& parameter,
                  const at::Tensor& direction) {
  const at::NoGradGuard no_grad;
  const at::Tensor before = parameter.clone();
  const auto loss_at = [&](double t) {
    parameter.copy_(before + t * direction);
    return loss_of(model, problem).item<double>();
  };
  constexpr double h = 1e-3;
  const double slope = (8 * (loss_at(h) - loss_at(-h)) - (loss_at(2 * h) - loss_at(-2 * h))) / (12 * h);
  parameter.copy_(before);
  return slope;
}

std::vector<at::Tensor> directions(const at::Tensor& gradient) {
  std::vector<at::Tensor> all{gradient / gradient.norm()};
  for (int i = 0; i < 2; ++i) {
    const at::Tensor random = at::randn_like(gradient);
    all.push_back(random / random.norm());
  }
  for (const int64_t element : {int64_t{0}, gradient.numel() / 2 + 1, gradient.numel() - 1}) {
    at::Tensor one = at::zeros_like(gradient);
    one.view(-1)[element] = 1;
    all.push_back(one);
  }
  return all;
}

struct Worst {
  double error = 0;  // of the norm of the gradient
  std::string name;
};

Worst compare(const Case& one, const Layers& layers = local_layers()) {
  Transformer model(one.config, layers);
  randomise(*model);
  model->to(at::kDouble);
  const Problem problem = problem_of(one);
  const at::Tensor loss = loss_of(model, problem);
  EXPECT_EQ(loss.scalar_type(), at::kDouble);
  loss.backward();
  Worst worst;
  for (const auto& entry : model->named_parameters()) {
    const at::Tensor& parameter = entry.value();
    const at::Tensor& gradient = parameter.grad();
    EXPECT_GT(gradient.norm().item<double>(), 0) << entry.key();
    for (const at::Tensor& direction : directions(gradient)) {
      const double expected = difference(model, problem, parameter.detach(), direction);
      const double error = std::abs((gradient * direction).sum().item<double>() - expected);
      const double part = error / gradient.norm().item<double>();
      if (!(part <= worst.error)) worst = {part, entry.key()};
    }
  }
  return worst;
}

class FiniteDifferences : public testing::Test {
 protected:
  void SetUp() override { at::set_num_threads(1); }  // the tensors are tiny
};

TEST_F(FiniteDifferences, AgreeWithEveryGradientOfEveryFamily) {
  for (const Case& one : cases()) {
    const Worst worst = compare(one);
    EXPECT_LT(worst.error, kTolerance) << one.name << ": " << worst.name;
  }
}

// The value of x, with a gradient that is 1.0001 times what it should be.
at::Tensor with_wrong_gradient(const at::Tensor& x) {
  return x * 1.0001 - (x * 0.0001).detach();
}

TEST_F(FiniteDifferences, NoticeAGradientThatIsALittleWrong) {
  const auto expect_noticed = [](const char* what, const Layers& layers) {
    for (const Case& one : cases()) EXPECT_GT(compare(one, layers).error, 10 * kTolerance) << what << ", " << one.name;
  };
  const Layers local = local_layers();
  Layers layers = local;
  layers.arrange = with_attention([&](auto& q, auto& k, auto& v, auto& documents) {
    return attend(local.attention, {q, with_wrong_gradient(k), v}, documents);
  });
  expect_noticed("keys", layers);
  layers = local;
  layers.loss = [&](auto& hidden, auto& head, auto& labels) {
    return local.loss(hidden, with_wrong_gradient(head), labels);
  };
  expect_noticed("head", layers);
}

TEST_F(FiniteDifferences, GradientsInFp32AreThoseInFp64) {
  for (const Case& one : cases()) {
    const Problem problem = problem_of(one);
    Transformer model(one.config), exact(one.config);
    randomise(*model);
    randomise(*exact);
    exact->to(at::kDouble);
    loss_of(model, problem).backward();
    loss_of(exact, problem).backward();
    for (const auto& entry : model->named_parameters()) {
      const at::Tensor& expected = exact->named_parameters()[entry.key()].grad();
      EXPECT_LT(relative(entry.value().grad(), expected), 1e-5) << one.name << ": " << entry.key();
    }
  }
}

}  // namespace
}  // namespace longfold::model
