// The oracle: plain loops that read like the formulas. Everything else is tested against it, and double runs on it.
#pragma once

#include "longfold/kernels/evoformer_attention.h"

namespace longfold::kernels {

// Items are (b, h) pairs: B * H of them. `scratch` holds Lk accumulators.
template <class T>
void reference_forward(const ForwardArgs<T>& args, int64_t begin, int64_t end, std::span<Accumulator<T>> scratch);
template <class T>
void reference_backward(const BackwardArgs<T>& args, int64_t begin, int64_t end, std::span<Accumulator<T>> scratch);

// Accumulators that the two need: one row of logits; two such rows, and sums for one row n of grad_q, grad_k and
// grad_v.
template <class T>
[[nodiscard]] int64_t reference_forward_scratch(const ForwardArgs<T>& args);
template <class T>
[[nodiscard]] int64_t reference_backward_scratch(const BackwardArgs<T>& args);

}  // namespace longfold::kernels
