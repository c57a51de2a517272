// Built where the compiler does not target x86-64. isa.cpp never selects what is absent here.
#include <stdexcept>

#include "longfold/kernels/cpu/causal/isa_kernels.h"

namespace longfold::kernels {

template <class T>
CausalKernels<T> avx2_causal_kernels() {
  throw std::runtime_error("[avx2] this build has no such kernels: they are for x86-64");
}
template CausalKernels<float> avx2_causal_kernels<float>();
template CausalKernels<bfloat16> avx2_causal_kernels<bfloat16>();
template CausalKernels<float16> avx2_causal_kernels<float16>();

}  // namespace longfold::kernels
