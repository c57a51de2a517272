#include "longfold/model/flash_attention.h"

#include <ATen/Context.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_flash_attention_backward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <vector>

namespace longfold::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

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

class FlashAttention : public torch::autograd::Function<FlashAttention> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const at::Tensor& begins, const at::Tensor& on_gpu, int64_t longest, bool repeatable,
                            int64_t chunk_queries) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const at::Tensor q_tokens = tokens_of(q), k_tokens = tokens_of(k), v_tokens = tokens_of(v);
    auto [out, lse, state, unused, debug] =
        at::_flash_attention_forward(q_tokens, k_tokens, v_tokens, on_gpu, on_gpu, longest, longest, /*dropout_p=*/0,
                                     /*is_causal=*/true, /*return_debug_mask=*/false);
    context->save_for_backward({q, k, v, out, lse, state, unused, begins, on_gpu});
    context->saved_data["longest"] = longest;
    context->saved_data["repeatable"] = repeatable;
    context->saved_data["chunk_queries"] = chunk_queries;
    return out.view(q.sizes());
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const at::NoGradGuard no_grad;
    const variable_list saved = context->get_saved_variables();
    const int64_t longest = context->saved_data["longest"].toInt();
    const bool repeatable = context->saved_data["repeatable"].toBool();
    const int64_t chunk_queries = context->saved_data["chunk_queries"].toInt();
    const RepeatableBits bits(repeatable);
    const Parts parts{.q = tokens_of(saved[0]),
                      .k = tokens_of(saved[1]),
                      .v = tokens_of(saved[2]),
                      .out = saved[3],
                      .lse = saved[4],
                      .state = saved[5],
                      .unused = saved[6],
                      .grad_out = tokens_of(grads[0].contiguous())};
    variable_list result(8);
    const Gradients of_tokens = repeatable && longest > chunk_queries
                                    ? by_chunks(parts, numbers_of(saved[7]), chunk_queries)
                                    : of_documents(parts, saved[8], saved[8], longest, longest);
    result[0] = of_tokens.q.view_as(saved[0]);
    result[1] = of_tokens.k.view_as(saved[1]);
    result[2] = of_tokens.v.view_as(saved[2]);
    return result;
  }

 private:
  struct Parts {
    at::Tensor q, k, v, out, lse, state, unused, grad_out;
  };
  struct Gradients {
    at::Tensor q, k, v;
  };

  static Gradients of_documents(const Parts& parts, const at::Tensor& q_begins, const at::Tensor& k_begins,
                                int64_t longest_q, int64_t longest_k) {
    auto [q, k, v] = at::_flash_attention_backward(parts.grad_out, parts.q, parts.k, parts.v, parts.out, parts.lse,
                                                   q_begins, k_begins, longest_q, longest_k, /*dropout_p=*/0,
                                                   /*is_causal=*/true, parts.state, parts.unused);
    return {q, k, v};
  }

  // Queries [begin, end) against keys [key_begin, end): the causal mask is aligned at the end.
  static Gradients of_chunk(const Parts& parts, int64_t key_begin, int64_t begin, int64_t end) {
    const auto slice = [](const at::Tensor& x, int64_t first, int64_t last) { return x.slice(0, first, last); };
    return of_documents({.q = slice(parts.q, begin, end),
                         .k = slice(parts.k, key_begin, end),
                         .v = slice(parts.v, key_begin, end),
                         .out = slice(parts.out, begin, end),
                         .lse = parts.lse.slice(1, begin, end).contiguous(),  // [H, B * S]
                         .state = parts.state,
                         .unused = parts.unused,
                         .grad_out = slice(parts.grad_out, begin, end)},
                        bounds(parts.q, end - begin), bounds(parts.q, end - key_begin), end - begin, end - key_begin);
  }

  static Gradients by_chunks(const Parts& parts, const std::vector<int64_t>& begins, int64_t chunk_queries) {
    Gradients all{at::empty_like(parts.q, at::MemoryFormat::Contiguous), at::zeros_like(parts.k, at::kFloat),
                  at::zeros_like(parts.v, at::kFloat)};
    for (size_t i = 0; i + 1 < begins.size(); ++i) {
      const int64_t first = begins[i], last = begins[i + 1];
      for (int64_t begin = first; begin < last; begin += chunk_queries) {
        const int64_t end = std::min(begin + chunk_queries, last);
        const Gradients chunk = of_chunk(parts, first, begin, end);
        all.q.slice(0, begin, end).copy_(chunk.q);
        all.k.slice(0, first, end).add_(chunk.k);
        all.v.slice(0, first, end).add_(chunk.v);
      }
    }
    return {all.q, all.k.to(parts.k.scalar_type()), all.v.to(parts.v.scalar_type())};
  }
};

}  // namespace

at::Tensor flash_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Documents& documents,
                           bool repeatable, int64_t chunk_queries) {
  check_on_gpu("flash_attention", q, documents);
  return FlashAttention::apply(q, k, v, *documents.begins, documents.on_gpu, documents.longest, repeatable,
                               chunk_queries);
}

}  // namespace longfold::model
