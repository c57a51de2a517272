// What the one .cpp per instruction set offers.
#pragma once

#include "longfold/kernels/evoformer/tile_size.h"
#include "longfold/kernels/evoformer_attention.h"

namespace longfold::kernels {

template <class T>
struct IsaKernels {
  void (*forward)(const ForwardArgs<T>&, const Shape&, int64_t begin, int64_t end, float* scratch);
  void (*backward)(const BackwardArgs<T>&, const Shape&, int64_t begin, int64_t end, float* scratch, float* workspace);
  void (*finish_backward)(const BackwardArgs<T>&, const Shape&, int64_t begin, int64_t end, float* workspace);
};

// T is float, bfloat16 or float16. Each runs only on a CPU that has the instructions: see isa.h.
template <class T>
[[nodiscard]] IsaKernels<T> portable_kernels();
template <class T>
[[nodiscard]] IsaKernels<T> neon_kernels();
template <class T>
[[nodiscard]] IsaKernels<T> avx2_kernels();
template <class T>
[[nodiscard]] IsaKernels<T> avx512_kernels();
// AVX-512 with products of bfloat16 pairs; the other types have nothing to gain from it.
[[nodiscard]] IsaKernels<bfloat16> avx512_bf16_kernels();

}  // namespace longfold::kernels
