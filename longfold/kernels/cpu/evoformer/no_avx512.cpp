// Built where the compiler does not target x86-64, or LONGFOLD_AVX512 is OFF. isa.cpp never selects what is absent
// here.
#include <stdexcept>
#include <string>

#include "longfold/kernels/cpu/evoformer/isa_kernels.h"

namespace longfold::kernels {
namespace {

[[noreturn]] void missing(const std::string& name) {
#if defined(__x86_64__)
  throw std::runtime_error("[" + name + "] this build has no such kernels: LONGFOLD_AVX512 is OFF");
#else
  throw std::runtime_error("[" + name + "] this build has no such kernels: they are for x86-64");
#endif
}

}  // namespace

template <class T>
IsaKernels<T> avx512_kernels() {
  missing("avx512");
}
IsaKernels<bfloat16> avx512_bf16_kernels() {
  missing("avx512_bf16");
}
template IsaKernels<float> avx512_kernels<float>();
template IsaKernels<bfloat16> avx512_kernels<bfloat16>();
template IsaKernels<float16> avx512_kernels<float16>();

}  // namespace longfold::kernels
