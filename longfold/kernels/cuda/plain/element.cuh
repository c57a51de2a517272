// Elements on the device: from and to the type that sums are kept in.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "longfold/kernels/dtype.h"

namespace longfold::kernels::cuda::plain {

__device__ inline float load(float value) {
  return value;
}
__device__ inline double load(double value) {
  return value;
}
__device__ inline float load(bfloat16 value) {
  return __uint_as_float(static_cast<unsigned>(value.bits) << 16);
}
__device__ inline float load(float16 value) {
  return __half2float(__ushort_as_half(value.bits));
}

// Rounds to nearest, ties to even.
__device__ inline void store(float& to, float value) {
  to = value;
}
__device__ inline void store(double& to, double value) {
  to = value;
}
__device__ inline void store(bfloat16& to, float value) {
  to.bits = __bfloat16_as_ushort(__float2bfloat16_rn(value));
}
__device__ inline void store(float16& to, float value) {
  to.bits = __half_as_ushort(__float2half_rn(value));
}

}  // namespace longfold::kernels::cuda::plain
