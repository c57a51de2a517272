// Biases: how one enters the kernels, and reading one element whatever its type.
#pragma once

#include "longfold/kernels/evoformer/tile_size.h"
#include "longfold/kernels/tensor_view.h"

namespace longfold::kernels {

enum class BiasKind : uint8_t {
  kHidden,   // of kBool: hides keys, adds nothing
  kMask,     // the same for all queries: one value a key, added as a broadcast
  kPair,     // the same for all rows n: transposed once into a slab that serves them all
  kGeneral,  // differs in both: transposed again for every row
};

[[gnu::always_inline]] inline BiasKind kind_of(const BiasView& bias, const Shape& shape) {
  if (bias.dtype == DType::kBool) return BiasKind::kHidden;
  if (bias.strides[3] == 0) return BiasKind::kMask;
  if (bias.strides[1] == 0 || shape.N == 1) return BiasKind::kPair;
  return BiasKind::kGeneral;
}

[[gnu::always_inline]] inline double bias_element(const BiasView& bias, int64_t offset) {
  switch (bias.dtype) {
    case DType::kFloat32:
      return static_cast<const float*>(bias.data)[offset];
    case DType::kFloat64:
      return static_cast<const double*>(bias.data)[offset];
    case DType::kBFloat16:
      return to_float(static_cast<const bfloat16*>(bias.data)[offset]);
    case DType::kFloat16:
      return to_float(static_cast<const float16*>(bias.data)[offset]);
    case DType::kBool:
      break;  // adds nothing
  }
  return 0;
}

// Whether a bias of kBool hides the key there.
[[gnu::always_inline]] inline bool hides(const BiasView& bias, int64_t offset) {
  return bias.dtype == DType::kBool && static_cast<const uint8_t*>(bias.data)[offset] == 0;
}

}  // namespace longfold::kernels
