// Element types of kernel arguments.
#pragma once

#include <cstdint>
#include <cstring>

namespace longfold::kernels {

enum class DType : uint8_t { kFloat32, kFloat64, kBFloat16, kFloat16 };

// The upper half of an IEEE fp32: 8 exponent bits, 7 mantissa bits.
struct bfloat16 {
  uint16_t bits;
};

[[nodiscard]] inline float to_float(bfloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

// Rounds to nearest, ties to even; NaN stays NaN.
[[nodiscard]] inline bfloat16 to_bfloat16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

// IEEE fp16 to fp32, subnormals and infinities included.
[[nodiscard]] inline float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t magnitude = half & 0x7fffu;
  float result;
  if (magnitude >= 0x7c00u) {  // infinity, NaN
    const uint32_t bits = sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13);
    std::memcpy(&result, &bits, sizeof result);
    return result;
  }
  if (magnitude < 0x400u) {  // zero, subnormal: a multiple of 2^-24
    result = static_cast<float>(magnitude) * 0x1p-24f;
    return sign != 0 ? -result : result;
  }
  const uint32_t bits = sign | ((magnitude << 13) + (112u << 23));
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

// The type that sums and softmax statistics of T are kept in.
template <class T>
struct AccumulatorOf {
  using type = float;
};
template <>
struct AccumulatorOf<double> {
  using type = double;
};
template <class T>
using Accumulator = typename AccumulatorOf<T>::type;

}  // namespace longfold::kernels
