// Built where the compiler does not target 64-bit Arm. isa.cpp never selects what is absent here.
#include <stdexcept>

#include "longfold/kernels/cpu/causal/isa_kernels.h"

namespace longfold::kernels {

template <class T>
CausalKernels<T> neon_causal_kernels() {
  throw std::runtime_error("[neon] this build has no such kernels: they are for 64-bit Arm");
}
template CausalKernels<float> neon_causal_kernels<float>();
template CausalKernels<bfloat16> neon_causal_kernels<bfloat16>();
template CausalKernels<float16> neon_causal_kernels<float16>();

}  // namespace longfold::kernels
