// The exp and log of longfold/kernels/cpu/simd.h, from one object per instruction set. `count` is a multiple of the
// widest vector, 16 floats.
#pragma once

#include <cstdint>

namespace longfold::kernels {

#define LONGFOLD_DECLARE_SIMD_FUNCTIONS(isa)                        \
  void exp_##isa(const float* from, float* to, std::int64_t count); \
  void log_##isa(const float* from, float* to, std::int64_t count);

LONGFOLD_DECLARE_SIMD_FUNCTIONS(portable)
LONGFOLD_DECLARE_SIMD_FUNCTIONS(neon)
LONGFOLD_DECLARE_SIMD_FUNCTIONS(avx2)
LONGFOLD_DECLARE_SIMD_FUNCTIONS(avx512)
LONGFOLD_DECLARE_SIMD_FUNCTIONS(avx512_bf16)

#undef LONGFOLD_DECLARE_SIMD_FUNCTIONS

}  // namespace longfold::kernels
