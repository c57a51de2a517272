// Causal attention without torch: out = softmax(scale * q k^T) v, where a query sees itself and the keys before it in
// its own document. No [S, S] mask or matrix is ever in memory.
//
// B batch, Sq queries, Sk keys, H heads, D head dim; G = H / KV heads of q share one head of k and v (grouped-query
// attention). Sq = Sk = S tokens, each a query and a key, unless queries are another part of a sequence than the keys:
// query s stands at the place first_query + s among the keys, and sees keys 0 to min(first_query + s, Sk - 1). That is
// for rows of one document and without a window.
//
// All tensors by view, any strides. T is float, bfloat16, float16 or double; sums are kept in fp32 (double for double).
//
// The caller owns threads and memory: it asks for a plan, and calls run_* with ranges that together cover the items, in
// any order and from any threads, each thread with a scratch of its own. The result's bits depend on neither.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "longfold/kernels/tensor_view.h"

namespace longfold::kernels {

// Queries are counted through the batch: query s of row b is b * Sq + s. starts[d] is the first of document d, the last
// entry is B * Sq; they do not fall, and every b * Sq is among them, so that no document spans two rows.
using DocumentStarts = std::span<const int64_t>;

template <class T>
struct CausalForwardArgs {
  TensorView<const T, 4> q;                   // [B, Sq, H, D]
  TensorView<const T, 4> k;                   // [B, Sk, KV heads, D]
  TensorView<const T, 4> v;                   // [B, Sk, KV heads, D]
  DocumentStarts documents;                   //
  int64_t window = 0;                         // keys that a query sees at most, itself among them; 0: no limit
  int64_t first_query = 0;                    // place of the first query among the keys
  TensorView<T, 4> out;                       // [B, Sq, H, D]
  TensorView<Accumulator<T>, 3> log_sum_exp;  // [B, H, Sq]
  double scale = 1;
};

// out and log_sum_exp are those of the forward pass, or of a larger attention that it is a part of, over more keys:
// weights are exp(logits - log_sum_exp), whatever their sum, and results then this part's share of the gradients.
template <class T>
struct CausalBackwardArgs {
  TensorView<const T, 4> q;                         // [B, Sq, H, D]
  TensorView<const T, 4> k;                         // [B, Sk, KV heads, D]
  TensorView<const T, 4> v;                         // [B, Sk, KV heads, D]
  DocumentStarts documents;                         // as in the forward pass
  int64_t window = 0;                               // as in the forward pass
  int64_t first_query = 0;                          // as in the forward pass
  TensorView<const T, 4> out;                       // [B, Sq, H, D]
  TensorView<const Accumulator<T>, 3> log_sum_exp;  // [B, H, Sq]
  TensorView<const T, 4> grad_out;                  // [B, Sq, H, D]
  TensorView<T, 4> grad_q;                          // [B, Sq, H, D]
  TensorView<T, 4> grad_k;                          // [B, Sk, KV heads, D]
  TensorView<T, 4> grad_v;                          // [B, Sk, KV heads, D]
  double scale = 1;
};

struct CausalForwardPlan {
  int64_t num_items = 0;
  int64_t scratch_bytes = 0;             // for each thread, 64-byte aligned, content irrelevant
  std::vector<int64_t> document_groups;  // groups of panels in the documents before each, then in all
};

// A square of queries and keys, in chunks of one document.
struct CausalSquare {
  int32_t document;
  int32_t q_chunk;
  int32_t k_chunk;
};

// Phases run one after the other, the items of a phase in any order.
struct CausalBackwardPlan {
  std::vector<int64_t> phases;        // items in each
  int64_t scratch_bytes = 0;          // for each thread, 64-byte aligned, content irrelevant
  int64_t workspace_bytes = 0;        // for the whole call, 64-byte aligned, content irrelevant
  int64_t heads_at_once = 0;          // heads of k and v whose sums stand in the workspace
  std::vector<CausalSquare> squares;  // by colour: those of one colour share no queries and no keys
  std::vector<int64_t> colours;       // where in `squares` each colour begins, then their number
};

template <class T>
[[nodiscard]] CausalForwardPlan plan_causal_forward(const CausalForwardArgs<T>& args);
template <class T>
void run_causal_forward(const CausalForwardArgs<T>& args, const CausalForwardPlan& plan, int64_t begin, int64_t end,
                        std::span<std::byte> scratch);

template <class T>
[[nodiscard]] CausalBackwardPlan plan_causal_backward(const CausalBackwardArgs<T>& args);
template <class T>
void run_causal_backward(const CausalBackwardArgs<T>& args, const CausalBackwardPlan& plan, int64_t phase,
                         int64_t begin, int64_t end, std::span<std::byte> scratch, std::span<std::byte> workspace);

}  // namespace longfold::kernels
