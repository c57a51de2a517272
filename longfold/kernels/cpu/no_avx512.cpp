// Built where the compiler does not target x86-64. isa.cpp never selects what is absent here.
#include <stdexcept>

#include "longfold/kernels/cpu/isa_kernels.h"

namespace longfold::kernels {

template <>
IsaKernels<float> avx512_kernels<float>() {
  throw std::runtime_error("[avx512] this build has no AVX-512 kernels");
}
template <>
IsaKernels<bfloat16> avx512_kernels<bfloat16>() {
  throw std::runtime_error("[avx512] this build has no AVX-512 kernels");
}

}  // namespace longfold::kernels
