#include "longfold/kernels/cpu/evoformer/body.h"

namespace longfold::kernels {

template <>
IsaKernels<float> avx512_kernels<float>() {
  return {&forward<float>, &backward<float>, &finish<float>};
}
template <>
IsaKernels<bfloat16> avx512_kernels<bfloat16>() {
  return {&forward<bfloat16>, &backward<bfloat16>, &finish<bfloat16>};
}
template <>
IsaKernels<float16> avx512_kernels<float16>() {
  return {&forward<float16>, &backward<float16>, &finish<float16>};
}

}  // namespace longfold::kernels
