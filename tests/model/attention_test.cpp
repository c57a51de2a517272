#include "longfold/model/attention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "longfold/memory/meter.h"

namespace longfold::model {
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

std::string refusal(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  try {
    (void)causal_attention(q, k, v);
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
  return "fine";
}

TEST(CausalAttention, RefusesWhatTheKernelWouldGetWrong) {
  const at::Tensor x = at::randn({1, 4, 2, 8});
  EXPECT_EQ(refusal(x, x, x), "fine");
  const at::Tensor strided = at::randn({1, 4, 8, 2}).transpose(2, 3);
  EXPECT_EQ(refusal(x, strided, x), "[causal_attention] expected a contiguous head dim, got stride 2");
  const at::Tensor longer = at::randn({1, 5, 2, 8});
  EXPECT_EQ(
      refusal(x, longer, longer),
      "[causal_attention] expected k and v of the shape of q but for the number of heads, got [1, 4, 2, 8], [1, 5, "
      "2, 8] and [1, 5, 2, 8]");
  const at::Tensor three = at::randn({1, 4, 3, 8});
  EXPECT_EQ(refusal(x, three, three),
            "[causal_attention] expected a number of heads of q that those of k and v divide, got 2 and 3");
  EXPECT_EQ(refusal(x[0], x[0], x[0]), "[causal_attention] expected q of shape [B, S, H, D], got [4, 2, 8]");
  EXPECT_EQ(refusal(x, x.to(at::kDouble), x),
            "[causal_attention] expected q, k and v of one dtype, got Float, Double and Float");
}

}  // namespace
}  // namespace longfold::model
