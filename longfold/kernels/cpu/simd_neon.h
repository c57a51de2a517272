// NEON, as every 64-bit Arm CPU has it. See simd.h.
#pragma once

#include <arm_neon.h>

namespace longfold::kernels {
namespace {

constexpr int kWidth = 4;       // floats in a vector
constexpr int kRegisters = 32;  // vectors that the CPU can name

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
  return vdupq_n_f32(value);
}
LONGFOLD_INLINE Vec splat_pair(const float* from) {
  return vcombine_f32(vld1_f32(from), vld1_f32(from));
}
LONGFOLD_INLINE Vec fma(Vec a, Vec b, Vec c) {
  return vfmaq_f32(c, a, b);
}
// Not vmaxq, which gives NaN if either is, nor vmaxnmq, which gives the number.
LONGFOLD_INLINE Vec max(Vec a, Vec b) {
  return vbslq_f32(vcgtq_f32(a, b), a, b);
}
LONGFOLD_INLINE Vec select_at_most(Vec condition, Vec bound, Vec a, Vec b) {
  return vbslq_f32(vcleq_f32(condition, bound), a, b);
}
LONGFOLD_INLINE bool any_at_most(Vec condition, Vec bound) {
  return vmaxvq_u32(vcleq_f32(condition, bound)) != 0;
}
LONGFOLD_INLINE bool any_above(Vec condition, Vec bound) {
  return vmaxvq_u32(vcgtq_f32(condition, bound)) != 0;
}
LONGFOLD_INLINE bool all_equal(Vec a, Vec b) {
  return vminvq_u32(vceqq_f32(a, b)) != 0;
}

LONGFOLD_INLINE Vec sum_or_zero_below(Vec condition, Vec bound, UnsignedVec a, UnsignedVec b) {
  return vreinterpretq_f32_u32(vbicq_u32(a + b, vcltq_f32(condition, bound)));
}

LONGFOLD_INLINE Vec widen_float16(ShortVec bits) {
  return vcvt_f32_f16(vreinterpret_f16_u16(bits));
}
LONGFOLD_INLINE ShortVec narrow_float16(Vec value) {
  return vreinterpret_u16_f16(vcvt_f16_f32(value));
}

}  // namespace
}  // namespace longfold::kernels
