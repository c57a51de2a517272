#include "longfold/model/flash_attention.h"

#include <ATen/Context.h>
#include <ATen/ops/_flash_attention_backward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <vector>

namespace longfold::model {
namespace {

// Torch's kernels ask a setting of the process whether bits must repeat.
class RepeatableBits {
 public:
  explicit RepeatableBits(bool repeatable)
      : before_(at::globalContext().deterministicAlgorithms()),
        warned_(at::globalContext().deterministicAlgorithmsWarnOnly()) {
    at::globalContext().setDeterministicAlgorithms(repeatable, /*warn_only=*/false);
  }
  ~RepeatableBits() { at::globalContext().setDeterministicAlgorithms(before_, warned_); }
  RepeatableBits(const RepeatableBits&) = delete;
  RepeatableBits& operator=(const RepeatableBits&) = delete;

 private:
  bool before_, warned_;
};

// One after the other, [B * S, heads, D].
at::Tensor tokens_of(const at::Tensor& x) {
  return x.flatten(0, 1);
}

std::vector<int64_t> numbers_of(const at::Tensor& begins) {
  const auto* first = begins.const_data_ptr<int64_t>();
  return {first, first + begins.numel()};
}

at::Tensor bounds(const at::Tensor& like, int64_t end) {
  return at::tensor({int64_t{0}, end}, like.options().dtype(at::kInt));
}

// What a call of torch's works on: tokens one after the other, the ends of documents among them.
struct Parts {
  at::Tensor q, k, v, out, lse, grad_out;  // lse [H, tokens]
};

// [B, H, S] and [H, B * S].
at::Tensor lse_of_rows(const at::Tensor& lse, int64_t B) {
  return lse.unflatten(1, {B, -1}).transpose(0, 1);
}
at::Tensor lse_of_tokens(const at::Tensor& lse) {
  return lse.transpose(0, 1).flatten(1).contiguous();
}

// Where rows of L tokens begin, int32 on the GPU.
at::Tensor rows_of(const at::Tensor& x) {
  return at::arange(x.size(0) + 1, x.options().dtype(at::kInt)) * x.size(1);
}

Qkv of_documents(const Parts& parts, const at::Tensor& q_begins, const at::Tensor& k_begins, int64_t longest_q,
                 int64_t longest_k, bool causal) {
  const at::Tensor no_random_state = at::zeros({2}, parts.q.options().dtype(at::kUInt64));  // of dropout alone
  auto [q, k, v] =
      at::_flash_attention_backward(parts.grad_out, parts.q, parts.k, parts.v, parts.out, parts.lse, q_begins, k_begins,
                                    longest_q, longest_k, /*dropout_p=*/0, causal, no_random_state, no_random_state);
  return {q, k, v};
}

// Queries [begin, end) against keys [key_begin, end): the causal mask is aligned at the end.
Qkv of_chunk(const Parts& parts, int64_t key_begin, int64_t begin, int64_t end) {
  const auto slice = [](const at::Tensor& x, int64_t first, int64_t last) { return x.slice(0, first, last); };
  return of_documents({.q = slice(parts.q, begin, end),
                       .k = slice(parts.k, key_begin, end),
                       .v = slice(parts.v, key_begin, end),
                       .out = slice(parts.out, begin, end),
                       .lse = parts.lse.slice(1, begin, end).contiguous(),
                       .grad_out = slice(parts.grad_out, begin, end)},
                      bounds(parts.q, end - begin), bounds(parts.q, end - key_begin), end - begin, end - key_begin,
                      /*causal=*/true);
}

Qkv by_chunks(const Parts& parts, const std::vector<int64_t>& begins, int64_t chunk_queries) {
  Qkv all{at::empty_like(parts.q, at::MemoryFormat::Contiguous), at::zeros_like(parts.k, at::kFloat),
          at::zeros_like(parts.v, at::kFloat)};
  for (size_t i = 0; i + 1 < begins.size(); ++i) {
    const int64_t first = begins[i], last = begins[i + 1];
    for (int64_t begin = first; begin < last; begin += chunk_queries) {
      const int64_t end = std::min(begin + chunk_queries, last);
      const Qkv chunk = of_chunk(parts, first, begin, end);
      all.q.slice(0, begin, end).copy_(chunk.q);
      all.k.slice(0, first, end).add_(chunk.k);
      all.v.slice(0, first, end).add_(chunk.v);
    }
  }
  return {all.q, all.k.to(parts.k.scalar_type()), all.v.to(parts.v.scalar_type())};
}

class FlashAttention final : public AttentionCore {
 public:
  FlashAttention(bool repeatable, int64_t chunk_queries) : repeatable_(repeatable), chunk_queries_(chunk_queries) {}

  [[nodiscard]] Attended forward(const Qkv& qkv, const Documents& documents, bool causal) const override {
    check_on_gpu("flash_attention", qkv.q, documents);
    if (qkv.q.is_meta()) return dry_forward(qkv.q);
    const at::Tensor of_q = causal ? documents.on_gpu : rows_of(qkv.q);
    const at::Tensor of_k = causal ? documents.on_gpu : rows_of(qkv.k);
    auto [out, lse, state, unused, debug] = at::_flash_attention_forward(
        tokens_of(qkv.q), tokens_of(qkv.k), tokens_of(qkv.v), of_q, of_k, causal ? documents.longest : qkv.q.size(1),
        causal ? documents.longest : qkv.k.size(1), /*dropout_p=*/0, causal, /*return_debug_mask=*/false);
    return {out.view(qkv.q.sizes()), lse_of_rows(lse, qkv.q.size(0))};
  }

  [[nodiscard]] Qkv backward(const at::Tensor& grad_out, const Qkv& qkv, const Attended& attended,
                             const Documents& documents, bool causal) const override {
    if (qkv.q.is_meta()) return dry_backward(qkv);
    const RepeatableBits bits(repeatable_);
    const Parts parts{.q = tokens_of(qkv.q),
                      .k = tokens_of(qkv.k),
                      .v = tokens_of(qkv.v),
                      .out = tokens_of(attended.out),
                      .lse = lse_of_tokens(attended.log_sum_exp),
                      .grad_out = tokens_of(grad_out.contiguous())};
    const int64_t longest = documents.longest;
    Qkv grads;
    if (!causal) {
      grads = of_documents(parts, rows_of(qkv.q), rows_of(qkv.k), qkv.q.size(1), qkv.k.size(1), false);
    } else if (repeatable_ && longest > chunk_queries_) {
      grads = by_chunks(parts, numbers_of(*documents.begins), chunk_queries_);
    } else {
      grads = of_documents(parts, documents.on_gpu, documents.on_gpu, longest, longest, true);
    }
    return {grads.q.view_as(qkv.q), grads.k.view_as(qkv.k), grads.v.view_as(qkv.v)};
  }

 private:
  static Attended dry_forward(const at::Tensor& q) {
    return {at::empty(q.sizes(), q.options()),
            at::empty({q.size(0), q.size(2), q.size(1)}, q.options().dtype(at::kFloat))};
  }

  // What torch's kernels allocate: sums of the queries' gradients in fp32, of a chunk as many as fill the GPU.
  [[nodiscard]] Qkv dry_backward(const Qkv& qkv) const {
    const at::Tensor& q = qkv.q;
    const int64_t L = std::min(q.size(0) * q.size(1), repeatable_ ? chunk_queries_ : q.size(0) * q.size(1));
    const int64_t H = q.size(2), copies = repeatable_ ? (kMultiprocessors + H - 1) / H : 1;
    const auto sums = q.options().dtype(at::kFloat);
    const at::Tensor of_q = at::empty({copies, L + 128, H, (q.size(3) + 31) / 32 * 32}, sums);
    const bool in_chunks = repeatable_ && q.size(1) > chunk_queries_;
    const at::Tensor of_k = in_chunks ? at::empty(qkv.k.sizes(), sums) : at::Tensor();
    const at::Tensor of_v = in_chunks ? at::empty(qkv.v.sizes(), sums) : at::Tensor();
    return {at::empty(q.sizes(), q.options()), at::empty(qkv.k.sizes(), q.options()),
            at::empty(qkv.v.sizes(), q.options())};
  }

  static constexpr int64_t kMultiprocessors = 132;  // of an H100 and an H200
  bool repeatable_;
  int64_t chunk_queries_;
};

}  // namespace

SharedCore flash_attention(bool repeatable, int64_t chunk_queries) {
  return std::make_shared<FlashAttention>(repeatable, chunk_queries);
}

}  // namespace longfold::model
