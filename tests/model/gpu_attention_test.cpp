// FlashAttention-2 and cuDNN against dense attention in fp64. Skipped where there is no GPU.
#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "longfold/base/error.h"
#include "longfold/model/cudnn_attention.h"
#include "longfold/model/flash_attention.h"
#include "longfold/model/rotary.h"

namespace longfold::model {
namespace {

TEST(AttentionEngine, IsForADevice) {
  EXPECT_EQ(attention_engine("auto", at::kCPU), AttentionEngine::kLongfold);
  EXPECT_EQ(attention_engine("flash", at::kCUDA), AttentionEngine::kFlash);
  EXPECT_THROW((void)attention_engine("flash", at::kCPU), base::UserError);
  EXPECT_THROW((void)attention_engine("longfold", at::kCUDA), base::UserError);
  if (missing_for_cudnn().empty()) {
    EXPECT_EQ(attention_engine("auto", at::kCUDA), AttentionEngine::kCudnn);
    EXPECT_EQ(attention_engine("cudnn", at::kCUDA), AttentionEngine::kCudnn);
  } else {
    EXPECT_EQ(attention_engine("auto", at::kCUDA), AttentionEngine::kFlash);
    EXPECT_THROW((void)attention_engine("cudnn", at::kCUDA), base::UserError);
  }
}

TEST(Documents, AreWholeRows) {
  const at::Device gpu = at::kMeta;  // any that is not the CPU
  const auto of = [&](std::vector<int64_t> begins) { return documents_on(gpu, at::tensor(begins, at::kLong), 2, 8); };
  EXPECT_TRUE(documents_on(gpu, {}, 2, 8).whole_rows);
  EXPECT_TRUE(of({0, 8, 16}).whole_rows);
  EXPECT_FALSE(of({0, 7, 16}).whole_rows);
  EXPECT_FALSE(of({0, 8, 12, 16}).whole_rows);
  EXPECT_FALSE(of({0, 16}).whole_rows);
}

struct Result {
  at::Tensor out, q, k, v;  // and the gradients
};

// q, k, v are [B, S, heads, D], documents int64.
Result dense(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& documents,
             const at::Tensor& grad) {
  const auto exact = [](const at::Tensor& x) { return x.detach().cpu().to(at::kDouble).requires_grad_(); };
  const at::Tensor eq = exact(q), ek = exact(k), ev = exact(v);
  const int64_t T = q.size(0) * q.size(1), group = q.size(2) / k.size(2);
  const auto heads = [](const at::Tensor& x) { return x.flatten(0, 1).transpose(0, 1); };  // [H, T, D]
  const at::Tensor scores =
      at::matmul(heads(eq), heads(ek.repeat_interleave(group, 2)).transpose(1, 2)) / std::sqrt(q.size(3));
  const at::Tensor document = at::bucketize(at::arange(T), documents, /*out_int32=*/false, /*right=*/true);
  const at::Tensor hidden =
      document.unsqueeze(0).ne(document.unsqueeze(1)).logical_or(at::ones({T, T}, at::kBool).triu(1));
  const at::Tensor weights = scores.masked_fill(hidden, -INFINITY).softmax(-1);
  const at::Tensor out = at::matmul(weights, heads(ev.repeat_interleave(group, 2))).transpose(0, 1).view(q.sizes());
  out.backward(grad.cpu().to(at::kDouble));
  return {out.detach(), eq.grad(), ek.grad(), ev.grad()};
}

Result by(const SharedCore& core, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
          const at::Tensor& documents, const at::Tensor& grad) {
  const auto leaf = [](const at::Tensor& x) { return x.detach().clone().requires_grad_(); };
  const at::Tensor own_q = leaf(q), own_k = leaf(k), own_v = leaf(v);
  const at::Tensor out = attend(core, {own_q, own_k, own_v}, documents_on(q.device(), documents, q.size(0), q.size(1)));
  out.backward(grad);
  return {out.detach(), own_q.grad(), own_k.grad(), own_v.grad()};
}

double distance(const at::Tensor& got, const at::Tensor& exact) {
  return ((got.cpu().to(at::kDouble) - exact).norm() / exact.norm()).item<double>();
}

struct Case {
  std::string name;
  SharedCore core;
  bool repeats = true;
  int64_t heads = 4, kv_heads = 4, head_size = 64;
  bool is_fused = false;  // q, k and v are views of one projection
  std::vector<int64_t> documents = {0, 1, 300, 640, 1100, 1280};
};

class GpuAttention : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (!at::hasCUDA()) GTEST_SKIP() << "no GPU";
    if (GetParam().name.starts_with("Cudnn") && !missing_for_cudnn().empty()) GTEST_SKIP() << missing_for_cudnn();
  }
};

TEST_P(GpuAttention, IsDenseAttentionInFp64AndRepeats) {
  const Case& c = GetParam();
  at::manual_seed(1);
  const auto tensor = [&](int64_t num_heads, int64_t D) {
    return at::randn({2, 640, num_heads, D}, at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16));
  };
  const int64_t D = c.head_size, group = c.heads / c.kv_heads;
  at::Tensor q = tensor(c.heads, D), k = tensor(c.kv_heads, D), v = tensor(c.kv_heads, D);
  if (c.is_fused) {
    const at::Tensor fused = tensor(c.kv_heads, (group + 2) * D);
    q = fused.narrow(3, 0, group * D).unflatten(3, {group, D}).flatten(2, 3);
    k = fused.narrow(3, group * D, D);
    v = fused.narrow(3, (group + 1) * D, D);
  }
  const at::Tensor grad = tensor(c.heads, D);
  const at::Tensor documents = at::tensor(c.documents, at::kLong);
  const Result got = by(c.core, q, k, v, documents, grad), expected = dense(q, k, v, documents, grad);
  EXPECT_LT(distance(got.out, expected.out), 0.006);
  EXPECT_LT(distance(got.q, expected.q), 0.01);
  EXPECT_LT(distance(got.k, expected.k), 0.01);
  EXPECT_LT(distance(got.v, expected.v), 0.01);
  if (!c.repeats) return;
  const Result again = by(c.core, q, k, v, documents, grad);
  for (const auto part : {&Result::out, &Result::q, &Result::k, &Result::v}) {
    EXPECT_TRUE(at::equal(again.*part, got.*part));
  }
}

const std::vector<int64_t> kRows = {0, 640, 1280};

INSTANTIATE_TEST_SUITE_P(
    Engines, GpuAttention,
    testing::Values(
        Case{.name = "Flash", .core = flash_attention(true)},
        Case{.name = "FlashAnyOrder", .core = flash_attention(false), .repeats = false},
        Case{.name = "FlashSharedHeads", .core = flash_attention(true), .kv_heads = 2},
        Case{.name = "FlashInChunks", .core = flash_attention(true, 128), .kv_heads = 2},
        Case{.name = "CudnnPacked", .core = cudnn_attention(true)},
        Case{.name = "Cudnn", .core = cudnn_attention(true), .documents = kRows},
        Case{.name = "CudnnAnyOrder", .core = cudnn_attention(false), .repeats = false, .documents = kRows},
        Case{.name = "CudnnInTiles", .core = cudnn_attention(true, 100), .documents = kRows},
        Case{.name = "CudnnSharedHeads", .core = cudnn_attention(true, 250), .kv_heads = 2, .documents = kRows},
        Case{.name = "CudnnFused",
             .core = cudnn_attention(true),
             .head_size = 112,
             .is_fused = true,
             .documents = kRows},
        Case{.name = "CudnnFusedInTiles",
             .core = cudnn_attention(true, 256),
             .head_size = 120,
             .is_fused = true,
             .documents = kRows},
        Case{.name = "CudnnFusedOneHeadOfKeys",
             .core = cudnn_attention(true),
             .kv_heads = 1,
             .is_fused = true,
             .documents = kRows}),
    [](const auto& tested) { return tested.param.name; });

// cuDNN leaves the gradients of a fused projection side by side, and they are turned there.
TEST(GpuAttentionAndRotary, GiveTheSameBitsInPlace) {
  if (!at::hasCUDA()) GTEST_SKIP() << "no GPU";
  if (!missing_for_cudnn().empty()) GTEST_SKIP() << missing_for_cudnn();
  at::manual_seed(2);
  const int64_t S = 300, D = 112;
  const auto options = at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16);
  for (const int64_t group : {1, 3}) {
    const at::Tensor qkv = at::randn({1, S, group == 1 ? 4 : 1, (group + 2) * D}, options);
    const at::Tensor grad = at::randn({1, S, group == 1 ? 4 : 3, D}, options);
    const RotaryTables tables = rotary_tables(at::arange(S, options.dtype(at::kLong)).unsqueeze(0), D / 4, 10000);
    const SharedCore core = cudnn_attention(true);
    const auto gradient = [&](bool separate) {
      const at::Tensor leaf = qkv.clone().requires_grad_();
      const Qkv parts = split_and_rotate(leaf * 1, D, tables);
      const at::Tensor q = separate ? parts.q.clone() : parts.q;
      attend(core, {q, parts.k, parts.v}, documents_on(q.device(), {}, 1, S)).backward(grad);
      return leaf.grad();
    };
    EXPECT_TRUE(at::equal(gradient(false), gradient(true))) << group;
  }
}

}  // namespace
}  // namespace longfold::model
