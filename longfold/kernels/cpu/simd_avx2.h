// AVX2 with FMA and F16C. See simd.h.
#pragma once

#include <immintrin.h>

namespace longfold::kernels {
namespace {

constexpr int kWidth = 8;       // floats in a vector
constexpr int kRegisters = 16;  // vectors that the CPU can name

using Vec [[gnu::vector_size(kWidth * 4)]] = float;
using IntVec [[gnu::vector_size(kWidth * 4)]] = int32_t;
using UnsignedVec [[gnu::vector_size(kWidth * 4)]] = uint32_t;
using ShortVec [[gnu::vector_size(kWidth * 2)]] = uint16_t;

constexpr IntVec kZipLow = {0, 8, 1, 9, 2, 10, 3, 11};
constexpr IntVec kZipHigh = {4, 12, 5, 13, 6, 14, 7, 15};
constexpr IntVec kEven = {0, 2, 4, 6, 8, 10, 12, 14};
constexpr IntVec kOdd = {1, 3, 5, 7, 9, 11, 13, 15};
constexpr bool kHasPairProducts = false;

LONGFOLD_INLINE Vec splat(float value) {
  return _mm256_set1_ps(value);
}
LONGFOLD_INLINE Vec splat_pair(const float* from) {
  double both;
  __builtin_memcpy(&both, from, sizeof both);
  return _mm256_castpd_ps(_mm256_set1_pd(both));
}
LONGFOLD_INLINE Vec fma(Vec a, Vec b, Vec c) {
  return _mm256_fmadd_ps(a, b, c);
}
LONGFOLD_INLINE Vec max(Vec a, Vec b) {
  return _mm256_max_ps(a, b);
}
LONGFOLD_INLINE Vec select_at_most(Vec condition, Vec bound, Vec a, Vec b) {
  return _mm256_blendv_ps(b, a, _mm256_cmp_ps(condition, bound, _CMP_LE_OQ));
}
LONGFOLD_INLINE bool any_at_most(Vec condition, Vec bound) {
  return _mm256_movemask_ps(_mm256_cmp_ps(condition, bound, _CMP_LE_OQ)) != 0;
}
LONGFOLD_INLINE bool any_above(Vec condition, Vec bound) {
  return _mm256_movemask_ps(_mm256_cmp_ps(condition, bound, _CMP_GT_OQ)) != 0;
}
LONGFOLD_INLINE bool all_equal(Vec a, Vec b) {
  return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_NEQ_UQ)) == 0;
}

LONGFOLD_INLINE Vec sum_or_zero_below(Vec condition, Vec bound, UnsignedVec a, UnsignedVec b) {
  return _mm256_and_ps(reinterpret_cast<Vec>(a + b), _mm256_cmp_ps(condition, bound, _CMP_NLT_UQ));
}

LONGFOLD_INLINE Vec widen_float16(ShortVec bits) {
  return _mm256_cvtph_ps(reinterpret_cast<__m128i>(bits));
}
LONGFOLD_INLINE ShortVec narrow_float16(Vec value) {
  return reinterpret_cast<ShortVec>(_mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
}

}  // namespace
}  // namespace longfold::kernels
