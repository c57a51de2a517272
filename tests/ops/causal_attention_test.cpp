#include "longfold/ops/causal_attention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <string>

#include "longfold/memory/meter.h"

namespace longfold::ops {
namespace {

// The most bytes live at once during `action`, beyond those before.
int64_t extra_peak(const std::function<void()>& action) {
  const auto meter = memory::MemoryMeter::install();
  meter.reset_peak();
  const int64_t before = meter.live();
  action();
  return meter.peak() - before;
}

int64_t peak_of_attention(int64_t S) {
  std::vector<at::Tensor> inputs;
  for (int i = 0; i < 3; ++i) inputs.push_back(at::randn({1, S, 2, 16}).requires_grad_());
  return extra_peak([&] { causal_attention(inputs[0], inputs[1], inputs[2]).sum().backward(); });
}

TEST(CausalAttention, NeedsMemoryLinearInTheLength) {
  constexpr int64_t kLength = 8192;
  peak_of_attention(128);  // one-time buffers
  const int64_t half = peak_of_attention(kLength / 2), whole = peak_of_attention(kLength);
  const int64_t tensor = kLength * 2 * 16 * 4;
  EXPECT_GE(whole, 4 * tensor) << "the output and three gradients";
  EXPECT_LE(whole, 2 * half + tensor);
  EXPECT_LE(whole, 16 * tensor);
  // The meter would have seen one matrix of scores.
  EXPECT_GE(extra_peak([] { at::zeros({kLength, kLength}); }), 10 * whole);
}

at::Tensor dense(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const int64_t S = q.size(1);
  at::Tensor score = at::einsum("bihd,bjhd->bhij", {q, k}) / std::sqrt(static_cast<double>(q.size(3)));
  score = score.masked_fill(at::ones({S, S}, at::kBool).triu(1), -INFINITY);
  return at::einsum("bhij,bjhd->bihd", {score.softmax(-1), v});
}

TEST(CausalAttention, EqualsDenseAttentionOnViewsOfOneTensor) {
  for (const int64_t S : {1, 2, 33, 515}) {
    const at::Tensor qkv = at::randn({2, S, 3, 3, 8}).requires_grad_();
    const at::Tensor exact = qkv.detach().to(at::kDouble).requires_grad_();
    const at::Tensor out = causal_attention(qkv.select(3, 0), qkv.select(3, 1), qkv.select(3, 2));
    const at::Tensor expected = dense(exact.select(3, 0), exact.select(3, 1), exact.select(3, 2));
    EXPECT_LT((out - expected).abs().max().item<double>(), 1e-5 * expected.abs().max().item<double>()) << S;
    const at::Tensor weight = at::randn(out.sizes());
    (out * weight).sum().backward();
    (expected * weight).sum().backward();
    EXPECT_LT((qkv.grad() - exact.grad()).abs().max().item<double>(), 1e-5 * exact.grad().abs().max().item<double>());
  }
}

TEST(CausalAttention, AHeadOfKeysServesItsNeighboursAmongTheQueries) {
  const at::Tensor q = at::randn({2, 33, 6, 8}).requires_grad_(), k = at::randn({2, 33, 2, 8}).requires_grad_(),
                   v = at::randn({2, 33, 2, 8}).requires_grad_();
  const at::Tensor out = causal_attention(q, k, v), weight = at::randn(out.sizes());
  (out * weight).sum().backward();
  const auto exact = [](const at::Tensor& x) { return x.detach().to(at::kDouble).requires_grad_(); };
  const at::Tensor exact_q = exact(q), exact_k = exact(k), exact_v = exact(v);
  const auto for_each = [](const at::Tensor& x) { return x.repeat_interleave(3, 2); };
  const at::Tensor expected = dense(exact_q, for_each(exact_k), for_each(exact_v));
  (expected * weight).sum().backward();
  const auto expect_close = [](const at::Tensor& got, const at::Tensor& right) {
    EXPECT_LT((got - right).abs().max().item<double>(), 1e-5 * right.abs().max().item<double>());
  };
  expect_close(out, expected);
  expect_close(q.grad(), exact_q.grad());
  expect_close(k.grad(), exact_k.grad());
  expect_close(v.grad(), exact_v.grad());
}

at::Tensor as_exact(const at::Tensor& x) {
  return x.detach().to(at::kDouble).requires_grad_();
}

// Documents of 5, 1 and 27 tokens, in each of two rows, against each alone.
TEST(CausalAttention, DocumentsAreAsIfAlone) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16}) {
    const at::Tensor qkv = at::randn({2, 33, 3, 4, 16}).to(type);
    const auto part = [&](int64_t which, int64_t begin, int64_t end) {
      return qkv.slice(1, begin, end).select(2, which);
    };
    const at::Tensor documents = at::tensor({0, 5, 6, 33, 38, 39, 66}, at::kLong);
    const at::Tensor packed =
        causal_attention(part(0, 0, 33), part(1, 0, 33), part(2, 0, 33), {.documents = documents});
    for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 5}, {5, 6}, {6, 33}}) {
      const at::Tensor alone = causal_attention(part(0, begin, end), part(1, begin, end), part(2, begin, end));
      EXPECT_TRUE(at::equal(packed.slice(1, begin, end), alone)) << begin << " " << type;
    }
  }
}

TEST(CausalAttention, AWindowHidesWhatLiesFarBack) {
  const at::Tensor q = as_exact(at::randn({1, 50, 2, 8})), k = as_exact(at::randn({1, 50, 2, 8})),
                   v = as_exact(at::randn({1, 50, 2, 8}));
  at::Tensor score = at::einsum("bihd,bjhd->bhij", {q, k}) * 0.3;
  const at::Tensor seen = at::ones({50, 50}, at::kBool).tril().logical_and(at::ones({50, 50}, at::kBool).triu(-6));
  const at::Tensor expected =
      at::einsum("bhij,bjhd->bihd", {score.masked_fill(seen.logical_not(), -INFINITY).softmax(-1), v});
  const at::Tensor out =
      causal_attention(q.to(at::kFloat), k.to(at::kFloat), v.to(at::kFloat), {.window = 7, .scale = 0.3});
  EXPECT_LT((out - expected).abs().max().item<double>(), 1e-6);
}

TEST(CausalAttention, TheLogSumExpHasNoGradientAndSecondDerivativesAreRefused) {
  const at::Tensor x = at::randn({1, 9, 2, 8}).requires_grad_();
  const auto [out, log_sum_exp] = causal_attention_with_log_sum_exp(x, x, x);
  EXPECT_EQ(log_sum_exp.sizes(), at::IntArrayRef({1, 2, 9}));
  EXPECT_FALSE(log_sum_exp.requires_grad());
  const at::Tensor loss = out.sum();
  EXPECT_THROW((void)torch::autograd::grad({loss}, {x}, {}, true, true), c10::Error);
}

// The second row lies that far behind the first; what is between is never touched, and so takes no memory.
TEST(CausalAttention, RowsMayLieFarApart) {
  constexpr int64_t kFar = (int64_t{1} << 31) + 64;  // elements
  const at::Tensor store = at::empty({kFar + 3 * 20 * 2 * 8}, at::kBFloat16);
  const at::Tensor documents = at::tensor({0, 7, 20, 40}, at::kLong);
  std::vector<at::Tensor> far, near;
  for (int64_t i = 0; i < 3; ++i) {
    far.push_back(store.as_strided({2, 20, 2, 8}, {kFar, 16, 8, 1}, i * 320).normal_().detach().requires_grad_());
    near.push_back(far.back().detach().contiguous().requires_grad_());
  }
  const at::Tensor got = causal_attention(far[0], far[1], far[2], {.documents = documents});
  const at::Tensor expected = causal_attention(near[0], near[1], near[2], {.documents = documents});
  EXPECT_TRUE(at::equal(got, expected));
  const at::Tensor weight = at::randn_like(expected);
  (expected * weight).sum().backward();
  const auto gradients = torch::autograd::grad({(got * weight).sum()}, {far[0], far[1], far[2]});
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(at::equal(gradients[i], near[i].grad())) << i;
}

TEST(CausalAttention, NoTokensGiveNoTokens) {
  const at::Tensor none = at::zeros({2, 0, 4, 8}).requires_grad_();
  const at::Tensor out = causal_attention(none, none, none);
  EXPECT_EQ(out.sizes(), none.sizes());
  out.sum().backward();
  EXPECT_EQ(none.grad().sizes(), none.sizes());
}

std::string refusal(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    const CausalAttentionOptions& options = {}) {
  try {
    (void)causal_attention(q, k, v, options);
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
  return "fine";
}

TEST(CausalAttention, RefusesWhatItCannotUse) {
  const at::Tensor x = at::randn({2, 4, 2, 8});
  EXPECT_EQ(refusal(x, x, x), "fine");
  const at::Tensor longer = at::randn({2, 5, 2, 8});
  EXPECT_EQ(refusal(x, longer, longer),
            "[causal_attention] expected k of shape [B, S, KV heads, D] = [2, 4, 2, 8], got [2, 5, 2, 8]");
  const at::Tensor three = at::randn({2, 4, 3, 8});
  EXPECT_EQ(refusal(x, three, three),
            "[causal_attention] expected a number of heads of q that those of k divide, got 2 and 3");
  EXPECT_EQ(refusal(x[0], x[0], x[0]), "[causal_attention] expected q of shape [B, S, H, D], got [4, 2, 8]");
  EXPECT_EQ(refusal(x, x.to(at::kDouble), x), "[causal_attention] expected k of the dtype of q, Float, got Double");
  EXPECT_EQ(refusal(x, x, x, {.window = -1}),
            "[causal_attention] expected a window of at least 1, or 0 for none, got -1");
  const auto with = [&](std::vector<int64_t> starts) { return refusal(x, x, x, {.documents = at::tensor(starts)}); };
  EXPECT_EQ(with({0, 4, 8}), "fine");
  EXPECT_EQ(with({0, 4}), "[causal_attention] expected documents from 0 to B * S = 8, got from 0 to 4");
  EXPECT_EQ(with({0, 4, 3, 8}),
            "[causal_attention] expected documents that begin one after the other, got 3 as entry 2");
  EXPECT_EQ(
      with({0, 5, 8}),
      "[causal_attention] expected a document to begin at 4, where row 1 of the batch does: no document spans two "
      "rows");
  EXPECT_EQ(refusal(x, x, x, {.documents = at::tensor({0, 4, 8}, at::kInt)}),
            "[causal_attention] expected documents as int64 [documents + 1], got Int [3]");
}

}  // namespace
}  // namespace longfold::ops
