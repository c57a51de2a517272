// What the one .cpp per instruction set offers.
#pragma once

#include "longfold/kernels/causal/tile_size.h"
#include "longfold/kernels/causal_attention.h"

namespace longfold::kernels {

template <class T>
struct CausalKernels {
  void (*forward)(const CausalForwardArgs<T>&, const CausalForwardPlan&, const CausalShape&, int64_t begin, int64_t end,
                  float* scratch);
  void (*backward)(const CausalBackwardArgs<T>&, const CausalBackwardPlan&, const CausalShape&, int64_t phase,
                   int64_t begin, int64_t end, float* scratch, float* workspace);
};

// T is float, bfloat16 or float16. Each runs only on a CPU that has the instructions: see isa.h.
template <class T>
[[nodiscard]] CausalKernels<T> portable_causal_kernels();
template <class T>
[[nodiscard]] CausalKernels<T> neon_causal_kernels();
template <class T>
[[nodiscard]] CausalKernels<T> avx2_causal_kernels();
template <class T>
[[nodiscard]] CausalKernels<T> avx512_causal_kernels();
// AVX-512 with products of bfloat16 pairs; the other types have nothing to gain from it.
[[nodiscard]] CausalKernels<bfloat16> avx512_bf16_causal_kernels();

}  // namespace longfold::kernels
