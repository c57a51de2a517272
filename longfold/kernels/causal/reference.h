// Causal attention as plain loops: what the kernels are compared with, and what runs for double.
#pragma once

#include "longfold/kernels/causal_attention.h"

namespace longfold::kernels {

// Items are (document, head of k and v), documents first; scratch holds 2 * (keys of the longest document)
// numbers, and in the backward pass D more for each of them, twice, and D.
template <class T>
void reference_causal_forward(const CausalForwardArgs<T>& args, int64_t begin, int64_t end,
                              std::span<Accumulator<T>> scratch);
template <class T>
void reference_causal_backward(const CausalBackwardArgs<T>& args, int64_t begin, int64_t end,
                               std::span<Accumulator<T>> scratch);

// Numbers of scratch, where a row has so many more keys than queries.
[[nodiscard]] int64_t reference_causal_scratch(DocumentStarts documents, int64_t more_keys, int64_t head_dim);

}  // namespace longfold::kernels
