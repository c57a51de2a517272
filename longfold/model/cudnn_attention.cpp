#include "longfold/model/cudnn_attention.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <mutex>

#include "longfold/kernels/cuda/training.h"
#include "longfold/kernels/cudnn/attention.h"
#include "longfold/model/flash_attention.h"
#include "longfold/model/gpu_stream.h"

namespace longfold::model {
namespace {

namespace cudnn = kernels::cudnn;

cudnn::Heads heads(const at::Tensor& x) {  // [B, L, heads, D]
  TORCH_CHECK(x.stride(3) == 1, "[cudnn_attention] expected heads whose dimensions are contiguous, got strides ",
              x.strides());
  return {.data = x.data_ptr(), .batch = x.stride(0), .token = x.stride(1), .head = x.stride(2)};
}

cudnn::Shape shape_of(const at::Tensor& q, const at::Tensor& k, bool causal) {
  return {.dtype = q.scalar_type() == at::kHalf ? kernels::DType::kFloat16 : kernels::DType::kBFloat16,
          .B = q.size(0),
          .Lq = q.size(1),
          .Lk = k.size(1),
          .H = q.size(2),
          .kv_heads = k.size(2),
          .D = q.size(3),
          .causal = causal};
}

// Queries and keys of a tile whose gradients of logits take kMostBytes.
int64_t most_of_tile(int64_t heads) {
  constexpr int64_t kStep = 128;  // cuDNN's own tiles divide it
  const auto most = static_cast<int64_t>(std::sqrt(static_cast<double>(kMostBytes / (2 * heads))));
  return std::max(kStep, most / kStep * kStep);
}

// Side by side in one memory where q, k and v are so (split_and_rotate(), which then need not copy them together).
Qkv memory_for_gradients(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const int64_t D = q.size(3), group = q.size(2) / k.size(2);
  const auto* first = static_cast<const std::byte*>(q.const_data_ptr());
  const auto follows = [&](const at::Tensor& x, int64_t elements) {
    return x.is_alias_of(q) && x.const_data_ptr() == first + elements * x.element_size();
  };
  const bool are_fused = q.size(1) == k.size(1) && (group == 1 || k.size(2) == 1) &&
                         q.stride(2) == (k.size(2) == 1 ? D : (group + 2) * D) && follows(k, group * D) &&
                         follows(v, (group + 1) * D) && k.strides() == v.strides() && q.stride(1) == k.stride(1) &&
                         k.stride(1) == k.size(2) * (group + 2) * D;
  if (!are_fused) return {at::empty_like(q), at::empty_like(k), at::empty_like(v)};
  const at::Tensor fused = at::empty({q.size(0), q.size(1), k.size(2), (group + 2) * D}, q.options());
  const at::Tensor of_q = fused.narrow(3, 0, group * D);
  return {group == 1 ? of_q : of_q.unflatten(3, {group, D}).squeeze(2), fused.narrow(3, group * D, D),
          fused.narrow(3, (group + 1) * D, D)};
}

template <class T>
void add_by_kernel(const at::Tensor& from, const at::Tensor& to) {
  for (int64_t b = 0; b < from.size(0); ++b) {
    kernels::cuda::add_heads<T>({.from = static_cast<const T*>(from[b].const_data_ptr()),
                                 .token_stride = from.stride(1),
                                 .head_stride = from.stride(2),
                                 .to = to[b].mutable_data_ptr<float>(),
                                 .num_tokens = from.size(1),
                                 .num_heads = from.size(2),
                                 .head_size = from.size(3)},
                                current_stream(from.device()));
  }
}

// Adds heads of 16 bits [B, L, heads, D] to sums of fp32, each of whose B is contiguous.
void add_to_sum(const at::Tensor& from, const at::Tensor& to) {
  if (to.is_meta() || !kernels::cuda::has_training_kernels()) {
    to.add_(from);
  } else if (from.scalar_type() == at::kBFloat16) {
    add_by_kernel<kernels::bfloat16>(from, to);
  } else {
    add_by_kernel<kernels::float16>(from, to);
  }
}

struct Parts {
  at::Tensor q, k, v, out, lse, grad_out;
};

// Whether a row of the projection, or of its gradients, has more elements than an int32 counts: not tried with cuDNN.
bool spans_too_much(const at::Tensor& q) {
  return q.size(1) * q.stride(1) > std::numeric_limits<int32_t>::max();
}

class CudnnAttention final : public AttentionCore {
 public:
  CudnnAttention(bool repeatable, int64_t tile)
      : repeatable_(repeatable), tile_(tile), flash_(flash_attention(repeatable)) {}

  [[nodiscard]] Attended forward(const Qkv& qkv, const Documents& documents, bool causal) const override {
    if (!takes(qkv, documents, causal)) return flash_->forward(qkv, documents, causal);
    check_on_gpu("cudnn_attention", qkv.q, documents);
    const at::Tensor &q = qkv.q, out = at::empty(q.sizes(), q.options());
    const at::Tensor lse = at::empty({q.size(0), q.size(2), q.size(1)}, q.options().dtype(at::kFloat));
    if (q.is_meta()) return {out, lse};
    run(cudnn::ForwardArgs{.shape = shape_of(q, qkv.k, causal),
                           .q = heads(q),
                           .k = heads(qkv.k),
                           .v = heads(qkv.v),
                           .out = heads(out),
                           .lse = lse.mutable_data_ptr<float>()},
        q.device());
    return {out, lse};
  }

  [[nodiscard]] Qkv backward(const at::Tensor& grad_out, const Qkv& qkv, const Attended& attended,
                             const Documents& documents, bool causal) const override {
    if (!takes(qkv, documents, causal)) return flash_->backward(grad_out, qkv, attended, documents, causal);
    const Parts parts{qkv.q, qkv.k, qkv.v, attended.out, attended.log_sum_exp, grad_out.contiguous()};
    const Qkv all = memory_for_gradients(parts.q, parts.k, parts.v);
    const int64_t tile = std::min(tile_, most_of_tile(parts.q.size(0) * parts.q.size(2)));
    if (repeatable_ && std::max(parts.q.size(1), parts.k.size(1)) > tile) {
      by_tiles(parts, tile, causal, all);
    } else {
      of_tile(parts, causal, all);
    }
    return all;
  }

 private:
  [[nodiscard]] static bool takes(const Qkv& qkv, const Documents& documents, bool causal) {
    const bool one_row_each = documents.whole_rows || !causal;
    return one_row_each && qkv.q.size(3) <= 128 && qkv.q.size(1) > 1 && qkv.k.size(1) > 1 && !spans_too_much(qkv.q);
  }

  template <class Args>
  void run(const Args& args, at::Device device) const {
    std::call_once(made_, [&] { attention_ = std::make_unique<cudnn::Attention>(); });
    const at::Tensor workspace =
        at::empty({attention_->workspace_bytes(args)}, at::TensorOptions().device(device).dtype(at::kByte));
    attention_->run(args, workspace.data_ptr(), current_stream(device));
  }

  void of_tile(const Parts& parts, bool causal, const Qkv& to) const {
    const at::Tensor lse = parts.lse.contiguous();
    if (parts.q.is_meta()) {
      (void)at::empty({dry_workspace_bytes(parts)}, parts.q.options().dtype(at::kByte));
      return;
    }
    run(cudnn::BackwardArgs{.shape = shape_of(parts.q, parts.k, causal),
                            .q = heads(parts.q),
                            .k = heads(parts.k),
                            .v = heads(parts.v),
                            .out = heads(parts.out),
                            .grad_out = heads(parts.grad_out),
                            .grad_q = heads(to.q),
                            .grad_k = heads(to.k),
                            .grad_v = heads(to.v),
                            .lse = lse.const_data_ptr<float>(),
                            .repeatable = repeatable_},
        parts.q.device());
  }

  // What cuDNN asks for, found by asking it: where bits repeat the gradients of the logits in 16 bits, else those of q
  // in fp32; and a number or two for each query.
  [[nodiscard]] int64_t dry_workspace_bytes(const Parts& parts) const {
    const int64_t B = parts.q.size(0), Lq = parts.q.size(1), H = parts.q.size(2), D = parts.q.size(3);
    const int64_t of_queries = 8 * B * H * Lq;
    return of_queries + (repeatable_ ? 2 * B * H * Lq * parts.k.size(1) : 4 * B * H * Lq * D);
  }

  // Causal, queries of a tile see all keys of the tiles before, and their own tile's up to themselves.
  void by_tiles(const Parts& parts, int64_t tile, bool causal, const Qkv& to) const {
    // of like size: cuDNN does not take one token
    const auto size_of_tile = [tile](int64_t L) { return (L + (L + tile - 1) / tile - 1) / ((L + tile - 1) / tile); };
    const int64_t Lq = parts.q.size(1), Lk = parts.k.size(1), of_q = size_of_tile(Lq), of_k = size_of_tile(Lk);
    const auto part = [](const at::Tensor& x, int64_t begin, int64_t size) {
      return x.slice(1, begin, std::min(begin + size, x.size(1)));
    };
    const auto sums = [](const at::Tensor& x) { return at::zeros(x.sizes(), x.options().dtype(at::kFloat)); };
    const at::Tensor sum_k = sums(parts.k), sum_v = sums(parts.v);
    for (int64_t q_begin = 0; q_begin < Lq; q_begin += of_q) {
      const at::Tensor q = part(parts.q, q_begin, of_q), sum_q = sums(q);
      for (int64_t k_begin = 0; k_begin < Lk && (!causal || k_begin <= q_begin); k_begin += of_k) {
        const Qkv here{part(to.q, q_begin, of_q), part(to.k, k_begin, of_k), part(to.v, k_begin, of_k)};
        of_tile({q, part(parts.k, k_begin, of_k), part(parts.v, k_begin, of_k), part(parts.out, q_begin, of_q),
                 parts.lse.slice(2, q_begin, q_begin + q.size(1)), part(parts.grad_out, q_begin, of_q)},
                causal && k_begin == q_begin, here);
        add_to_sum(here.q, sum_q);
        add_to_sum(here.k, part(sum_k, k_begin, of_k));
        add_to_sum(here.v, part(sum_v, k_begin, of_k));
      }
      part(to.q, q_begin, of_q).copy_(sum_q);
    }
    to.k.copy_(sum_k);
    to.v.copy_(sum_v);
  }

  bool repeatable_;
  int64_t tile_;
  SharedCore flash_;  // for what cuDNN does not take
  mutable std::once_flag made_;
  mutable std::unique_ptr<cudnn::Attention> attention_;  // made at the first call: models are built without a GPU too
};

}  // namespace

SharedCore cudnn_attention(bool repeatable, int64_t tile) {
  return std::make_shared<CudnnAttention>(repeatable, tile);
}

std::string missing_for_cudnn() {
  return cudnn::missing_in_build();
}

std::string problem_with_cudnn(at::ScalarType dtype, bool repeatable) {
  constexpr int64_t L = 256, H = 2, D = 64;
  const cudnn::Shape shape{.dtype = dtype == at::kHalf ? kernels::DType::kFloat16 : kernels::DType::kBFloat16,
                           .Lq = L,
                           .Lk = L,
                           .H = H,
                           .kv_heads = H,
                           .D = D};
  const cudnn::Heads heads{.batch = L * H * D, .token = H * D, .head = D};
  try {
    cudnn::Attention attention;
    (void)attention.workspace_bytes(
        cudnn::ForwardArgs{.shape = shape, .q = heads, .k = heads, .v = heads, .out = heads});
    (void)attention.workspace_bytes(cudnn::BackwardArgs{.shape = shape,
                                                        .q = heads,
                                                        .k = heads,
                                                        .v = heads,
                                                        .out = heads,
                                                        .grad_out = heads,
                                                        .grad_q = heads,
                                                        .grad_k = heads,
                                                        .grad_v = heads,
                                                        .repeatable = repeatable});
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

}  // namespace longfold::model
