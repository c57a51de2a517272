// Compiled once per instruction set, with LONGFOLD_EXP and LONGFOLD_LOG naming what it defines. Nothing else may be
// included here: see simd.h.
#include "tests/kernels/simd_functions.h"

#include "longfold/kernels/cpu/simd.h"

namespace longfold::kernels {

void LONGFOLD_EXP(const float* from, float* to, int64_t count) {
  for (int64_t i = 0; i < count; i += kWidth) store(to + i, exp(load(from + i)));
}

void LONGFOLD_LOG(const float* from, float* to, int64_t count) {
  for (int64_t i = 0; i < count; i += kWidth) store(to + i, log(load(from + i)));
}

}  // namespace longfold::kernels
