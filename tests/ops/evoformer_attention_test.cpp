#include "longfold/ops/evoformer_attention.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "longfold/kernels/cuda/evoformer_attention.h"
#include "longfold/ops/dispatch.h"

namespace longfold::ops {
namespace {

constexpr int64_t B = 2, N = 3, Lq = 5, Lk = 7, H = 2, D = 4;

// q, k, v, mask bias, pair bias: fp64, each requiring a gradient.
std::vector<at::Tensor> inputs() {
  at::manual_seed(1);
  std::vector<at::Tensor> tensors;
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{B, N, Lq, H, D},
                                            {B, N, Lk, H, D},
                                            {B, N, Lk, H, D},
                                            {B, N, 1, 1, Lk},
                                            {B, 1, H, Lq, Lk}}) {
    tensors.push_back(at::randn(shape, at::kDouble).requires_grad_());
  }
  return tensors;
}

EvoformerAttentionResult formula(const std::vector<at::Tensor>& in, double scale) {
  const auto logits = at::einsum("bnihd,bnjhd->bnhij", {in[0], in[1]}) * scale + in[3] + in[4];
  return {at::einsum("bnhij,bnjhd->bnihd", {at::softmax(logits, -1), in[2]}), at::logsumexp(logits, -1)};
}

EvoformerAttentionResult ours(const std::vector<at::Tensor>& in, const EvoformerAttentionOptions& options = {}) {
  return evoformer_attention_with_log_sum_exp(in[0], in[1], in[2], {in[3], in[4]}, options);
}

std::string message_of(const auto& action) {
  try {
    action();
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

TEST(EvoformerAttention, TrainsFromCpp) {
  const auto in = inputs();
  const auto expected = formula(in, 0.3);
  const auto result = ours(in, {.scale = 0.3});
  EXPECT_TRUE(at::allclose(result.out, expected.out, 1e-12, 1e-12));
  EXPECT_TRUE(at::allclose(result.log_sum_exp, expected.log_sum_exp, 1e-12, 1e-12));

  const std::vector<at::Tensor> cotangents{at::randn_like(expected.out), at::randn_like(expected.log_sum_exp)};
  const auto expected_grads = torch::autograd::grad({expected.out, expected.log_sum_exp}, in, cotangents);
  const auto grads = torch::autograd::grad({result.out, result.log_sum_exp}, in, cotangents);
  for (size_t i = 0; i < in.size(); ++i) {
    EXPECT_GT(expected_grads[i].abs().max().item<double>(), 0.01);
    EXPECT_TRUE(at::allclose(grads[i], expected_grads[i], 1e-11, 1e-12)) << "gradient of input " << i;
  }
}

TEST(EvoformerAttention, DefaultScaleIsOneOverRootD) {
  const auto in = inputs();
  EXPECT_TRUE(at::allclose(ours(in).out, formula(in, 0.5).out, 1e-12, 1e-12));
}

TEST(EvoformerAttention, BoolsHideKeysWhateverTheyHold) {
  auto in = inputs();
  const at::Tensor shown = at::ones({B, N, 1, 1, Lk}, at::kBool);
  shown.select(4, 3).fill_(false);
  {
    const at::NoGradGuard guard;
    in[1].select(2, 3).fill_(NAN);
    in[3].select(4, 3).fill_(NAN);
    in[4].select(4, 3).fill_(NAN);
  }
  const auto out = evoformer_attention(in[0], in[1], in[2], {in[3], shown, in[4]});
  const auto grads = torch::autograd::grad({out.square().sum()}, in);
  in[3] = at::where(shown, in[3], -INFINITY).detach();
  in[4] = in[4].nan_to_num(0).detach();
  in[1] = in[1].nan_to_num(0).detach();
  EXPECT_TRUE(at::allclose(out, ours(in).out, 1e-12, 1e-12));
  for (const at::Tensor& grad : grads) EXPECT_TRUE(at::isfinite(grad).all().item<bool>());
  EXPECT_EQ(grads[1].select(2, 3).count_nonzero().item<int64_t>(), 0);
}

TEST(EvoformerAttention, EmptyBatches) {
  auto in = inputs();
  for (at::Tensor& tensor : in) {
    if (tensor.size(1) == N) tensor = tensor.narrow(1, 0, 0).detach().requires_grad_();
  }
  const auto result = ours(in);
  EXPECT_EQ(result.out.sizes(), (std::vector<int64_t>{B, 0, Lq, H, D}));
  EXPECT_EQ(result.log_sum_exp.sizes(), (std::vector<int64_t>{B, 0, H, Lq}));
  const auto grads = torch::autograd::grad({result.out.sum()}, in);
  EXPECT_EQ(grads[4].sizes(), in[4].sizes());
  EXPECT_EQ(grads[4].count_nonzero().item<int64_t>(), 0);
}

TEST(EvoformerAttention, NoGradSavesNothing) {
  const auto in = inputs();
  EXPECT_NE(ours(in).out.grad_fn(), nullptr);
  const at::NoGradGuard guard;
  const auto result = ours(in);
  EXPECT_FALSE(result.out.requires_grad());
  EXPECT_EQ(result.out.grad_fn(), nullptr);
}

TEST(EvoformerAttention, SecondBackwardThroughFreedGraphSaysSo) {
  const auto in = inputs();
  const auto loss = ours(in).out.sum();
  loss.backward();
  EXPECT_NE(message_of([&] { loss.backward(); }).find("a second time"), std::string::npos);
}

TEST(EvoformerAttention, SecondDerivatives) {
  const auto in = inputs();
  const auto second = [&](const at::Tensor& out) {
    const auto grads = torch::autograd::grad({out.square().sum()}, in, {}, std::nullopt, /*create_graph=*/true);
    at::Tensor total = at::zeros({}, at::kDouble);
    for (const at::Tensor& grad : grads) total = total + grad.square().sum();
    return torch::autograd::grad({total}, in);
  };
  const auto results = second(ours(in).out), expected = second(formula(in, 0.5).out);
  for (size_t i = 0; i < in.size(); ++i) {
    EXPECT_GT(expected[i].abs().max().item<double>(), 0.01);
    EXPECT_TRUE(at::allclose(results[i], expected[i], 1e-10, 1e-11)) << "second derivative to input " << i;
  }
}

TEST(EvoformerAttention, CudaIsRefusedByNameWhereItIsNotBuilt) {
  if (kernels::cuda::engine_status().starts_with("found")) GTEST_SKIP() << "this build has CUDA kernels";
  const auto in = inputs();
  const at::NoGradGuard guard;
  const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("longfold::evoformer_attention", "");
  const auto call = [&] {
    (void)op.typed<ForwardSignature>().redispatch(c10::DispatchKeySet(c10::DispatchKey::CUDA), in[0], in[1], in[2],
                                                  {in[3], in[4]}, std::nullopt, "zero", false);
  };
  const std::string expected =
      "[evoformer_attention] expected tensors on the CPU, got CUDA tensors: the CUDA kernels of this build are "
      "missing: ";
  EXPECT_EQ(message_of(call).substr(0, expected.size()), expected);
}

TEST(EvoformerAttention, WrongShapeIsOneLine) {
  const auto in = inputs();
  EXPECT_EQ(message_of([&] { (void)evoformer_attention(in[0], in[1], in[2], {in[4], in[3].transpose(0, 1)}); }),
            "[evoformer_attention] expected biases[1] to broadcast to [B, N, H, Lq, Lk] = [2, 3, 2, 5, 7], got "
            "[3, 2, 1, 1, 7]");
}

}  // namespace
}  // namespace longfold::ops
