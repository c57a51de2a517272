// Evoformer attention without torch: out = softmax(scale * q k^T + sum of biases) v, attention over L for each of B * N
// rows and H heads, the [B, N, H, Lq, Lk] logits never in memory.
//
// B batch, N rows that share a pair bias, Lq and Lk lengths, H heads, D head dim. All tensors by view, any strides.
// T is float, bfloat16, float16 or double; sums are kept in fp32 (double for T = double).
//
// The caller owns threads and memory: it asks for a plan, and calls run_* with ranges that together cover the items, in
// any order and from any threads, each thread with a scratch of its own. The result's bits depend on neither.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "longfold/kernels/tensor_view.h"

namespace longfold::kernels {

// A row is fully masked if its largest logit is at most this.
inline constexpr float kFullyMaskedLogit = -5e8f;

// The logit of a key that a bias of kBool hides, whatever q, k and the other biases hold there, NaN included. It is a
// constant: nothing flows to q, k and biases from it. Where all keys of a row are hidden, the row is fully masked.
inline constexpr float kHiddenLogit = -1e9f;

// What a fully masked row gives: zero output and gradients, or the mean of v with the gradients of uniform weights.
enum class FullyMasked : uint8_t { kZero, kMean };

// log_sum_exp is rounded, and half a unit in its last place is up to 5e-7 of every weight of a row: more than all other
// errors of the backward pass together. lse_correction, a factor near 1, is what the rounding left out.
template <class T>
struct ForwardArgs {
  TensorView<const T, 5> q;                      // [B, N, Lq, H, D]
  TensorView<const T, 5> k;                      // [B, N, Lk, H, D]
  TensorView<const T, 5> v;                      // [B, N, Lk, H, D]
  std::span<const BiasView> biases;              // each [B, N, H, Lq, Lk] by broadcasting
  TensorView<T, 5> out;                          // [B, N, Lq, H, D]
  TensorView<Accumulator<T>, 4> log_sum_exp;     // [B, N, H, Lq]; fully masked rows hold their largest logit
  TensorView<Accumulator<T>, 4> lse_correction;  // [B, N, H, Lq]; weights are exp(logit - log_sum_exp) times this
  double scale = 1;
  FullyMasked fully_masked = FullyMasked::kZero;
  int64_t num_threads = 1;  // that will share the items: how the work is cut, never what comes out
};

template <class T>
struct BackwardArgs {
  TensorView<const T, 5> q;                                // [B, N, Lq, H, D]
  TensorView<const T, 5> k;                                // [B, N, Lk, H, D]
  TensorView<const T, 5> v;                                // [B, N, Lk, H, D]
  std::span<const BiasView> biases;                        // as in the forward pass
  TensorView<const T, 5> out;                              // [B, N, Lq, H, D], from the forward pass
  TensorView<const Accumulator<T>, 4> log_sum_exp;         // [B, N, H, Lq], from the forward pass
  TensorView<const Accumulator<T>, 4> lse_correction;      // [B, N, H, Lq], from the forward pass
  TensorView<const T, 5> grad_out;                         // [B, N, Lq, H, D]
  TensorView<const Accumulator<T>, 4> grad_log_sum_exp{};  // [B, N, H, Lq]; data may be null: zero
  TensorView<T, 5> grad_q;                                 // [B, N, Lq, H, D]
  TensorView<T, 5> grad_k;                                 // [B, N, Lk, H, D]
  TensorView<T, 5> grad_v;                                 // [B, N, Lk, H, D]
  TensorView<Accumulator<T>, 4> grad_pair{};  // [B, H, Lq, Lk]: logit gradients summed over N; null: not wanted
  TensorView<Accumulator<T>, 4> grad_mask{};  // [B, N, H, Lk]: the same summed over Lq; null: not wanted
  // [B, N, H, Lq, Lk]: logit gradients, added to what is there; null: not wanted. No two elements may share memory.
  TensorView<Accumulator<T>, 5> grad_logits{};
  bool add_to_grad_pair = false;  // grad_pair holds a sum already, of batches or heads before
  // Of sums over many calls: what the roundings of grad_pair and grad_logits left out, added to what is there; the
  // caller adds it in the end. Shaped as these; null: not wanted.
  TensorView<Accumulator<T>, 4> grad_pair_rest{};
  TensorView<Accumulator<T>, 5> grad_logits_rest{};
  double scale = 1;
  FullyMasked fully_masked = FullyMasked::kZero;
};

struct Plan {
  int64_t num_items = 0;         // for run_*
  int64_t num_finish_items = 0;  // for finish_backward, after every run_backward has returned
  int64_t scratch_bytes = 0;     // for each thread, 64-byte aligned, content irrelevant
  int64_t workspace_bytes = 0;   // for the whole call, 64-byte aligned, content irrelevant
};

template <class T>
[[nodiscard]] Plan plan_forward(const ForwardArgs<T>& args);
template <class T>
void run_forward(const ForwardArgs<T>& args, int64_t begin, int64_t end, std::span<std::byte> scratch);

template <class T>
[[nodiscard]] Plan plan_backward(const BackwardArgs<T>& args);
template <class T>
void run_backward(const BackwardArgs<T>& args, int64_t begin, int64_t end, std::span<std::byte> scratch,
                  std::span<std::byte> workspace);
template <class T>
void finish_backward(const BackwardArgs<T>& args, int64_t begin, int64_t end, std::span<std::byte> workspace);

}  // namespace longfold::kernels
