#include "longfold/ops/causal_attention.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/Allocator.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

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

// Query s sees keys 0 to first_query + s.
at::Tensor dense_rectangle(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t first_query) {
  const at::Tensor score = at::einsum("bihd,bjhd->bhij", {q, k}) / std::sqrt(static_cast<double>(q.size(3)));
  const at::Tensor seen = at::arange(k.size(1)).unsqueeze(0) <= at::arange(q.size(1)).unsqueeze(1) + first_query;
  return at::einsum("bhij,bjhd->bihd", {score.masked_fill(seen.logical_not(), -INFINITY).softmax(-1), v});
}

TEST(CausalAttention, QueriesMayBeALaterPartThanTheKeys) {
  struct Rectangle {
    int64_t Sq, Sk, first_query;
  };
  for (const auto& [Sq, Sk, first_query] :
       {Rectangle{70, 70, 70}, {70, 200, 130}, {70, 200, 55}, {300, 65, 7}, {1, 90, 89}, {40, 90, 0}, {5, 1, 0}}) {
    for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
      std::vector<at::Tensor> inputs, exact;
      for (const auto& [tokens, heads] : {std::pair<int64_t, int64_t>{Sq, 4}, {Sk, 2}, {Sk, 2}}) {
        inputs.push_back(at::randn({2, tokens, heads, 8}, type).requires_grad_());
        exact.push_back(as_exact(inputs.back()));
      }
      const at::Tensor out = causal_attention(inputs[0], inputs[1], inputs[2], {.first_query = first_query});
      const at::Tensor expected =
          dense_rectangle(exact[0], exact[1].repeat_interleave(2, 2), exact[2].repeat_interleave(2, 2), first_query);
      const at::Tensor weight = at::randn(out.sizes());
      const double epsilon = type == at::kFloat ? 1e-5 : 1e-13;
      EXPECT_LT((out - expected).abs().max().item<double>(), epsilon * expected.abs().max().item<double>());
      const auto grads = torch::autograd::grad({(out * weight).sum()}, inputs);
      const auto right = torch::autograd::grad({(expected * weight).sum()}, exact);
      for (size_t i = 0; i < 3; ++i) {
        EXPECT_EQ(grads[i].sizes(), inputs[i].sizes());
        EXPECT_LT((grads[i] - right[i]).abs().max().item<double>(), epsilon * (1 + right[i].abs().max().item<double>()))
            << "gradient " << i << ", " << Sq << " queries, " << Sk << " keys, first_query " << first_query;
      }
    }
  }
}

TEST(CausalAttention, NoQueriesLeaveKeysWithoutGradients) {
  const at::Tensor q = at::zeros({2, 0, 4, 8}).requires_grad_(), k = at::randn({2, 9, 2, 8}).requires_grad_();
  causal_attention(q, k, k, {.first_query = 9}).sum().backward();
  EXPECT_TRUE(at::equal(k.grad(), at::zeros_like(k)));
}

// Gives nothing, as the meta device's own does, and remembers how much of it.
class CountingMetaAllocator final : public c10::Allocator {
 public:
  CountingMetaAllocator() { c10::SetAllocator(c10::kMeta, this); }
  ~CountingMetaAllocator() override { c10::SetAllocator(c10::kMeta, before_); }

  c10::DataPtr allocate(size_t bytes) override {
    asked_for.push_back(static_cast<int64_t>(bytes));
    return {nullptr, nullptr, nullptr, c10::kMeta};
  }
  void copy_data(void*, const void*, size_t) const override {}

  std::vector<int64_t> asked_for;

 private:
  c10::Allocator* before_ = c10::GetAllocator(c10::kMeta);
};

std::vector<int64_t> asked_for_on_meta(const std::vector<at::Tensor>& inputs, const CausalAttentionOptions& options) {
  std::vector<at::Tensor> meta;
  for (const at::Tensor& input : inputs) meta.push_back(input.detach().to(at::kMeta).requires_grad_());
  const at::Tensor out = causal_attention(meta[0], meta[1], meta[2], options);
  const at::Tensor grad = at::empty_like(out);
  CountingMetaAllocator counting;
  (void)torch::autograd::grad({out}, meta, {grad});
  return counting.asked_for;
}

TEST(CausalAttention, TheMetaDeviceCountsTheWorkspaceAndTheScratch) {
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor documents = at::tensor({0, 300, 600, 900, 1200, 1500}, at::kLong);
  const std::vector<CausalAttentionOptions> many = {
      {}, {.documents = documents}, {.window = 100}, {.first_query = 700}, {.first_query = 2500}};
  for (const CausalAttentionOptions& options : many) {
    const int64_t Sk = options.first_query == 0 ? 1500 : 4000;
    const std::vector<at::Tensor> inputs = {at::randn({1, 1500, 20, 16}).requires_grad_(),
                                            at::randn({1, Sk, 20, 16}).requires_grad_(),
                                            at::randn({1, Sk, 20, 16}).requires_grad_()};
    const std::vector<int64_t> dry = asked_for_on_meta(inputs, options);
    const int64_t workspace = dry.back(), all = std::accumulate(dry.begin(), dry.end(), int64_t{0});
    EXPECT_GE(workspace, 2 << 20) << "a workspace to speak of";
    EXPECT_GE(all - workspace, 4 * 16 * 20 * (1500 + 2 * Sk)) << "three gradients";
    const at::Tensor out = causal_attention(inputs[0], inputs[1], inputs[2], options), grad = at::ones_like(out);
    const int64_t taken = extra_peak([&] { (void)torch::autograd::grad({out}, inputs, {grad}); });
    EXPECT_NEAR(static_cast<double>(taken), static_cast<double>(all), 1 << 12);
  }
  at::set_num_threads(threads);
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
  EXPECT_EQ(refusal(x, longer, x),
            "[causal_attention] expected v of shape [B, Sk, KV heads, D] = [2, 5, 2, 8], got [2, 4, 2, 8]");
  const at::Tensor three = at::randn({2, 4, 3, 8});
  EXPECT_EQ(refusal(x, three, three),
            "[causal_attention] expected a number of heads of q that those of k divide, got 2 and 3");
  EXPECT_EQ(refusal(x[0], x[0], x[0]), "[causal_attention] expected q of shape [B, Sq, H, D], got [4, 2, 8]");
  EXPECT_EQ(refusal(x, x.to(at::kDouble), x), "[causal_attention] expected k of the dtype of q, Float, got Double");
  EXPECT_EQ(refusal(x, x, x, {.window = -1}),
            "[causal_attention] expected a window of at least 1, or 0 for none, got -1");
  EXPECT_EQ(refusal(x, longer, longer), "fine");
  EXPECT_EQ(refusal(x, longer, longer, {.first_query = 1}), "fine");
  EXPECT_EQ(refusal(x, x, x, {.first_query = -1}), "[causal_attention] expected first_query to be at least 0, got -1");
  const std::string cut =
      "[causal_attention] expected documents and a window only where queries are the tokens of the keys, got ";
  const std::string way_out = ": leave both out, one sequence in a row";
  EXPECT_EQ(refusal(x, longer, longer, {.window = 3}), cut + "4 queries, 5 keys and first_query 0" + way_out);
  EXPECT_EQ(refusal(x, x, x, {.window = 3, .first_query = 4}), cut + "4 queries, 4 keys and first_query 4" + way_out);
  EXPECT_EQ(refusal(x, x, x, {.documents = at::tensor({0, 4, 8}, at::kLong), .first_query = 4}),
            cut + "4 queries, 4 keys and first_query 4" + way_out);
  const at::Tensor none = at::randn({2, 0, 2, 8});
  EXPECT_EQ(refusal(x, none, none, {.first_query = 4}),
            "[causal_attention] expected Sk to be at least 1, got k of shape [2, 0, 2, 8] for 4 queries");
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
