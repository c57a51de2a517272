// Four floats in the compiler's own vector types: any CPU. See simd.h.
#pragma once

#include "longfold/kernels/dtype.h"

namespace longfold::kernels {
namespace {

constexpr int kWidth = 4;       // floats in a vector
constexpr int kRegisters = 16;  // vectors that the CPU can name

using Vec [[gnu::vector_size(kWidth * 4)]] = float;
using IntVec [[gnu::vector_size(kWidth * 4)]] = int32_t;
using ShortVec [[gnu::vector_size(kWidth * 2)]] = uint16_t;

constexpr IntVec kZipLow = {0, 4, 1, 5};
constexpr IntVec kZipHigh = {2, 6, 3, 7};

LONGFOLD_INLINE Vec splat(float value) {
  return Vec{value, value, value, value};
}
LONGFOLD_INLINE Vec fma(Vec a, Vec b, Vec c) {
  return a * b + c;
}
LONGFOLD_INLINE Vec max(Vec a, Vec b) {
  return a > b ? a : b;
}
LONGFOLD_INLINE Vec select_at_most(Vec condition, Vec bound, Vec a, Vec b) {
  return condition <= bound ? a : b;
}
LONGFOLD_INLINE bool any_at_most(Vec condition, Vec bound) {
  const IntVec mask = condition <= bound;
  for (int i = 0; i < kWidth; ++i) {
    if (mask[i] != 0) return true;
  }
  return false;
}
LONGFOLD_INLINE bool all_equal(Vec a, Vec b) {
  for (int i = 0; i < kWidth; ++i) {
    if (!(a[i] == b[i])) return false;
  }
  return true;
}
LONGFOLD_INLINE float sum(Vec value) {
  return (value[0] + value[2]) + (value[1] + value[3]);
}

// Adding and taking away 1.5 * 2^23 leaves the nearest whole number, whose low bits then are the exponent.
constexpr float kRoundMagic = 12582912.0f;
LONGFOLD_INLINE Vec round_to_whole(Vec x) {
  return (x + kRoundMagic) - kRoundMagic;
}
LONGFOLD_INLINE Vec scale_by_power(Vec p, Vec x, Vec whole) {
  using UnsignedVec [[gnu::vector_size(kWidth * 4)]] = uint32_t;  // wraps where the result is thrown away
  const UnsignedVec exponent = reinterpret_cast<UnsignedVec>(whole + kRoundMagic) << 23;
  const Vec scaled = reinterpret_cast<Vec>(reinterpret_cast<UnsignedVec>(p) + exponent);
  return x < -126.0f ? Vec{} : scaled;
}

LONGFOLD_INLINE Vec load_float16(const void* from) {
  float16 values[kWidth];
  __builtin_memcpy(values, from, sizeof values);
  return Vec{to_float(values[0]), to_float(values[1]), to_float(values[2]), to_float(values[3])};
}
LONGFOLD_INLINE void store_float16(void* to, Vec value) {
  float16 values[kWidth];
  for (int i = 0; i < kWidth; ++i) values[i] = to_float16(value[i]);
  __builtin_memcpy(to, values, sizeof values);
}

}  // namespace
}  // namespace longfold::kernels
