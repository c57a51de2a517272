// Element types of kernel arguments. Conversions are always inlined: see cpu/simd.h on functions shared by units.
#pragma once

#include <cstdint>
#include <cstring>

namespace longfold::kernels {

enum class DType : uint8_t { kFloat32, kFloat64, kBFloat16, kFloat16, kBool };

// The upper half of an IEEE fp32: 8 exponent bits, 7 mantissa bits.
struct bfloat16 {
  uint16_t bits;
};

[[nodiscard, gnu::always_inline]] inline float to_float(bfloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

// Rounds to nearest, ties to even; NaN stays NaN.
[[nodiscard, gnu::always_inline]] inline bfloat16 to_bfloat16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

// IEEE fp16: 5 exponent bits, 10 mantissa bits.
struct float16 {
  uint16_t bits;
};

// Subnormals and infinities included.
[[nodiscard, gnu::always_inline]] inline float to_float(float16 value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const uint32_t magnitude = value.bits & 0x7fffu;
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

// Rounds to nearest, ties to even; what is too large becomes infinite, NaN stays NaN.
[[nodiscard, gnu::always_inline]] inline float16 to_float16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t half;
  if (magnitude > 0x7f800000u) {  // NaN
    half = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
  } else if (magnitude >= 0x477ff000u) {  // rounds to 2^16 or more
    half = 0x7c00u;
  } else if (magnitude >= 0x38800000u) {  // normal: drop 13 bits, rebias the exponent
    half = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  } else {  // subnormal: a multiple of 2^-24, which adding 1/2 rounds to
    float absolute;
    std::memcpy(&absolute, &magnitude, sizeof absolute);
    const float shifted = absolute + 0.5f;
    std::memcpy(&half, &shifted, sizeof half);
    half -= 0x3f000000u;
  }
  return {static_cast<uint16_t>(sign | half)};
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
