// Built where the compiler does not target 64-bit Arm. isa.cpp never selects what is absent here.
#include <stdexcept>

#include "longfold/kernels/cpu/evoformer/isa_kernels.h"

namespace longfold::kernels {

template <class T>
IsaKernels<T> neon_kernels() {
  throw std::runtime_error("[neon] this build has no such kernels: they are for 64-bit Arm");
}
template IsaKernels<float> neon_kernels<float>();
template IsaKernels<bfloat16> neon_kernels<bfloat16>();
template IsaKernels<float16> neon_kernels<float16>();

}  // namespace longfold::kernels
