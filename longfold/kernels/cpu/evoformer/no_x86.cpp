// Built where the compiler does not target x86-64. isa.cpp never selects what is absent here.
#include <stdexcept>
#include <string>

#include "longfold/kernels/cpu/evoformer/isa_kernels.h"

namespace longfold::kernels {
namespace {

[[noreturn]] void missing(const std::string& name) {
  throw std::runtime_error("[" + name + "] this build has no such kernels: they are for x86-64");
}

}  // namespace

template <class T>
IsaKernels<T> avx2_kernels() {
  missing("avx2");
}
template <class T>
IsaKernels<T> avx512_kernels() {
  missing("avx512");
}
IsaKernels<bfloat16> avx512_bf16_kernels() {
  missing("avx512_bf16");
}
template IsaKernels<float> avx2_kernels<float>();
template IsaKernels<bfloat16> avx2_kernels<bfloat16>();
template IsaKernels<float16> avx2_kernels<float16>();
template IsaKernels<float> avx512_kernels<float>();
template IsaKernels<bfloat16> avx512_kernels<bfloat16>();
template IsaKernels<float16> avx512_kernels<float16>();

}  // namespace longfold::kernels
