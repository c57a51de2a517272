#include "longfold/kernels/cpu/causal/body.h"

namespace longfold::kernels {

template <>
CausalKernels<float> avx2_causal_kernels<float>() {
  return kCausalKernels<float>;
}
template <>
CausalKernels<bfloat16> avx2_causal_kernels<bfloat16>() {
  return kCausalKernels<bfloat16>;
}
template <>
CausalKernels<float16> avx2_causal_kernels<float16>() {
  return kCausalKernels<float16>;
}

}  // namespace longfold::kernels
