// Reading one element of a bias, whatever its type.
#pragma once

#include "longfold/kernels/tensor_view.h"

namespace longfold::kernels {

[[nodiscard]] inline double bias_element(const BiasView& bias, int64_t offset) {
  switch (bias.dtype) {
    case DType::kFloat32:
      return static_cast<const float*>(bias.data)[offset];
    case DType::kFloat64:
      return static_cast<const double*>(bias.data)[offset];
    case DType::kBFloat16:
      return to_float(static_cast<const bfloat16*>(bias.data)[offset]);
    case DType::kFloat16:
      return half_to_float(static_cast<const uint16_t*>(bias.data)[offset]);
  }
  return 0;
}

}  // namespace longfold::kernels
