// Sums of many terms that keep their digits, as plain/long_sum.cuh has them; here the rest is added only when someone
// asks, or settle() is called, so that a term costs less. It must be called now and then: a rest of some thousand terms
// has digits to lose itself.
#pragma once

#include "longfold/kernels/cuda/ptx.cuh"

namespace longfold::kernels::cuda::tiled {

constexpr int kTermsToSettle = 256;

struct LongSum {
  float sum = 0, rest = 0;

  // Two-sum (Knuth, The Art of Computer Programming 2, 4.2.2). These files are compiled without contraction.
  __device__ __forceinline__ void add(float term) {
    const float all = sum + term, there = all - sum;
    rest += (sum - (all - there)) + (term - there);
    sum = all;
  }
  __device__ __forceinline__ void scale(float factor) {
    sum *= factor;
    rest *= factor;
  }
  __device__ __forceinline__ void settle() {
    if (rest != rest) return;
    const float all = sum + rest;
    rest -= all - sum;
    sum = all;
  }
  // Where the sum is no finite number, the rest is none at all and the sum stands alone.
  [[nodiscard]] __device__ __forceinline__ float value() const { return rest == rest ? sum + rest : sum; }
};

// Of lanes that differ in the lowest bits of their number: the same bits in each of them, since every step adds the
// same two numbers on both sides.
template <int Lanes>
__device__ __forceinline__ LongSum sum_of_lanes(LongSum sum) {
  for (int far = 1; far < Lanes; far *= 2) {
    const float other = ptx::shuffle_xor(sum.sum, far);
    sum.rest += ptx::shuffle_xor(sum.rest, far);
    sum.add(other);
  }
  return sum;
}

}  // namespace longfold::kernels::cuda::tiled
