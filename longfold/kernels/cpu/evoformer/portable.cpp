#define LONGFOLD_PORTABLE  // for simd.h: no flag takes NEON from a compiler for 64-bit Arm
#include "longfold/kernels/cpu/evoformer/body.h"

namespace longfold::kernels {

template <>
IsaKernels<float> portable_kernels<float>() {
  return {&forward<float>, &backward<float>, &finish<float>};
}
template <>
IsaKernels<bfloat16> portable_kernels<bfloat16>() {
  return {&forward<bfloat16>, &backward<bfloat16>, &finish<bfloat16>};
}
template <>
IsaKernels<float16> portable_kernels<float16>() {
  return {&forward<float16>, &backward<float16>, &finish<float16>};
}

}  // namespace longfold::kernels
