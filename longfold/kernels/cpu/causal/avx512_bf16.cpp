#include "longfold/kernels/cpu/causal/body.h"

namespace longfold::kernels {

CausalKernels<bfloat16> avx512_bf16_causal_kernels() {
  static_assert(kPack<bfloat16> == 2, "compile this file with -mavx512bf16");
  return kCausalKernels<bfloat16>;
}

}  // namespace longfold::kernels
