// Built where the compiler does not target x86-64. isa.cpp never selects what is absent here.
#include <stdexcept>

#include "longfold/kernels/cpu/evoformer/isa_kernels.h"

namespace longfold::kernels {

template <class T>
IsaKernels<T> avx2_kernels() {
  throw std::runtime_error("[avx2] this build has no such kernels: they are for x86-64");
}
template IsaKernels<float> avx2_kernels<float>();
template IsaKernels<bfloat16> avx2_kernels<bfloat16>();
template IsaKernels<float16> avx2_kernels<float16>();

}  // namespace longfold::kernels
