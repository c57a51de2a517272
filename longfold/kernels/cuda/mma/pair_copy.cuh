// The kernel of pair_copy.h: a block for each query, all heads of a key by one thread, so that where heads are
// innermost each line of memory is read once.
#pragma once

#include "longfold/kernels/cuda/mma/loader.cuh"
#include "longfold/kernels/cuda/mma/pair_copy.h"

namespace longfold::kernels::cuda::mma {

template <BiasForm Form>
__device__ void copy_pair(const PairCopy& copy) {
  using Element = std::conditional_t<Form == BiasForm::k16, uint16_t, float>;
  const Bias &from = copy.from, &to = copy.to;
  const auto pitch = static_cast<int>(to.strides[3]);
  const int64_t rows = int64_t{copy.B} * copy.N * copy.Lq;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const int64_t query = row % copy.Lq, n = row / copy.Lq % copy.N, b = row / copy.Lq / copy.N;
    const int64_t first = bias_offset(from, b, n, 0) + query * from.strides[3];
    Element* const to_row =
        static_cast<Element*>(const_cast<void*>(to.data)) + bias_offset(to, b, n, 0) + query * pitch;
    for (int key = static_cast<int>(threadIdx.x); key < pitch; key += static_cast<int>(blockDim.x)) {
#pragma unroll 4
      for (int h = 0; h < copy.H; ++h) {
        const int64_t at = first + h * from.strides[2] + key * from.strides[4];
        Element element = 0;
        if (key < copy.Lk) {
          if constexpr (Form == BiasForm::k16)
            element = static_cast<const uint16_t*>(from.data)[at];
          else
            element = read_bias(from, at);
        }
        to_row[h * to.strides[2] + key] = element;
      }
    }
  }
}

}  // namespace longfold::kernels::cuda::mma
