// The attention that torch brings for GPUs against dense attention in fp64. Skipped where there is no GPU.
#include "longfold/model/gpu_attention.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <gtest/gtest.h>

#include <cmath>

#include "longfold/base/error.h"

namespace longfold::model {
namespace {

TEST(AttentionEngine, IsForADevice) {
  EXPECT_EQ(attention_engine("auto", at::kCPU), AttentionEngine::kLongfold);
  EXPECT_EQ(attention_engine("auto", at::kCUDA), AttentionEngine::kFlash);
  EXPECT_EQ(attention_engine("cudnn", at::kCUDA), AttentionEngine::kCudnn);
  EXPECT_THROW((void)attention_engine("flash", at::kCPU), base::UserError);
  EXPECT_THROW((void)attention_engine("longfold", at::kCUDA), base::UserError);
  for (const auto engine : {AttentionEngine::kFlash, AttentionEngine::kCudnn}) {
    EXPECT_EQ(attention_engine(to_string(engine), at::kCUDA), engine);
  }
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

Result by(const AttentionCore& core, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
          const at::Tensor& documents, const at::Tensor& grad) {
  const auto leaf = [](const at::Tensor& x) { return x.detach().clone().requires_grad_(); };
  const at::Tensor own_q = leaf(q), own_k = leaf(k), own_v = leaf(v);
  const at::Tensor out = core(own_q, own_k, own_v, documents_on(q.device(), documents, q.size(0), q.size(1)));
  out.backward(grad);
  return {out.detach(), own_q.grad(), own_k.grad(), own_v.grad()};
}

double distance(const at::Tensor& got, const at::Tensor& exact) {
  return ((got.cpu().to(at::kDouble) - exact).norm() / exact.norm()).item<double>();
}

struct Case {
  std::string name;
  AttentionEngine engine;
  bool repeatable;
  int64_t kv_heads, chunk_queries;
};

AttentionCore core_of(const Case& c) {
  if (c.chunk_queries == 0) return attention_core(c.engine, c.repeatable);
  return [&c](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Documents& documents) {
    return flash_attention(q, k, v, documents, c.repeatable, c.chunk_queries);
  };
}

class GpuAttention : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (!at::hasCUDA()) GTEST_SKIP() << "no GPU";
  }
};

TEST_P(GpuAttention, IsDenseAttentionInFp64AndRepeats) {
  const Case& c = GetParam();
  at::manual_seed(1);
  const auto tensor = [&](int64_t heads) {
    return at::randn({2, 640, heads, 64}, at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16));
  };
  const at::Tensor q = tensor(4), k = tensor(c.kv_heads), v = tensor(c.kv_heads), grad = tensor(4);
  const at::Tensor documents = at::tensor({0, 1, 300, 640, 1100, 1280}, at::kLong);
  const AttentionCore core = core_of(c);
  const Result got = by(core, q, k, v, documents, grad), expected = dense(q, k, v, documents, grad);
  EXPECT_LT(distance(got.out, expected.out), 0.006);
  EXPECT_LT(distance(got.q, expected.q), 0.01);
  EXPECT_LT(distance(got.k, expected.k), 0.01);
  EXPECT_LT(distance(got.v, expected.v), 0.01);
  if (!c.repeatable) return;
  const Result again = by(core, q, k, v, documents, grad);
  for (const auto part : {&Result::out, &Result::q, &Result::k, &Result::v}) {
    EXPECT_TRUE(at::equal(again.*part, got.*part));
  }
}

INSTANTIATE_TEST_SUITE_P(Engines, GpuAttention,
                         testing::Values(Case{"Flash", AttentionEngine::kFlash, true, 4, 0},
                                         Case{"FlashAnyOrder", AttentionEngine::kFlash, false, 4, 0},
                                         Case{"FlashSharedHeads", AttentionEngine::kFlash, true, 2, 0},
                                         Case{"FlashInChunks", AttentionEngine::kFlash, true, 2, 128},
                                         Case{"Cudnn", AttentionEngine::kCudnn, false, 4, 0},
                                         Case{"CudnnSharedHeads", AttentionEngine::kCudnn, false, 2, 0}),
                         [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace longfold::model
