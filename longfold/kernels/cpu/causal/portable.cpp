#define LONGFOLD_PORTABLE  // for simd.h: no flag takes NEON from a compiler for 64-bit Arm
#include "longfold/kernels/cpu/causal/body.h"

namespace longfold::kernels {

template <>
CausalKernels<float> portable_causal_kernels<float>() {
  return kCausalKernels<float>;
}
template <>
CausalKernels<bfloat16> portable_causal_kernels<bfloat16>() {
  return kCausalKernels<bfloat16>;
}
template <>
CausalKernels<float16> portable_causal_kernels<float16>() {
  return kCausalKernels<float16>;
}

}  // namespace longfold::kernels
