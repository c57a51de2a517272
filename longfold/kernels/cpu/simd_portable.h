// Four floats in the compiler's own vector types: any CPU. See simd.h.
#pragma once

#include "longfold/kernels/dtype.h"

namespace longfold::kernels {
namespace {

constexpr int kWidth = 4;       // floats in a vector
constexpr int kRegisters = 16;  // vectors that the CPU can name

using Vec [[gnu::vector_size(kWidth * 4)]] = float;
using IntVec [[gnu::vector_size(kWidth * 4)]] = int32_t;
using UnsignedVec [[gnu::vector_size(kWidth * 4)]] = uint32_t;
using ShortVec [[gnu::vector_size(kWidth * 2)]] = uint16_t;

constexpr IntVec kZipLow = {0, 4, 1, 5};
constexpr IntVec kZipHigh = {2, 6, 3, 7};
constexpr IntVec kEven = {0, 2, 4, 6};
constexpr IntVec kOdd = {1, 3, 5, 7};
constexpr bool kHasPairProducts = false;

LONGFOLD_INLINE Vec splat(float value) {
  return Vec{value, value, value, value};
}
LONGFOLD_INLINE Vec splat_pair(const float* from) {
  return Vec{from[0], from[1], from[0], from[1]};
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
LONGFOLD_INLINE bool any_above(Vec condition, Vec bound) {
  const IntVec mask = condition > bound;
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

LONGFOLD_INLINE Vec sum_or_zero_below(Vec condition, Vec bound, UnsignedVec a, UnsignedVec b) {
  return condition < bound ? Vec{} : reinterpret_cast<Vec>(a + b);
}

LONGFOLD_INLINE Vec widen_float16(ShortVec bits) {
  return Vec{to_float(float16{bits[0]}), to_float(float16{bits[1]}), to_float(float16{bits[2]}),
             to_float(float16{bits[3]})};
}
LONGFOLD_INLINE ShortVec narrow_float16(Vec value) {
  return ShortVec{to_float16(value[0]).bits, to_float16(value[1]).bits, to_float16(value[2]).bits,
                  to_float16(value[3]).bits};
}

}  // namespace
}  // namespace longfold::kernels
