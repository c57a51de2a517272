#include "longfold/kernels/cpu/evoformer/body.h"

namespace longfold::kernels {

IsaKernels<bfloat16> avx512_bf16_kernels() {
  static_assert(kPack<bfloat16> == 2, "compile this file with -mavx512bf16");
  return {&forward<bfloat16>, &backward<bfloat16>, &finish<bfloat16>};
}

}  // namespace longfold::kernels
