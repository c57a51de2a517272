// AVX-512 (F, BW, DQ, VL). See simd.h.
#pragma once

#include <immintrin.h>

namespace longfold::kernels {
namespace {

constexpr int kWidth = 16;      // floats in a vector
constexpr int kRegisters = 32;  // vectors that the CPU can name

using Vec [[gnu::vector_size(kWidth * 4)]] = float;
using IntVec [[gnu::vector_size(kWidth * 4)]] = int32_t;
using UnsignedVec [[gnu::vector_size(kWidth * 4)]] = uint32_t;
using ShortVec [[gnu::vector_size(kWidth * 2)]] = uint16_t;

constexpr IntVec kZipLow = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
constexpr IntVec kZipHigh = {8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
constexpr IntVec kEven = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30};
constexpr IntVec kOdd = {1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31};

LONGFOLD_INLINE Vec splat(float value) {
  return _mm512_set1_ps(value);
}
LONGFOLD_INLINE Vec splat_pair(const float* from) {
  double both;
  __builtin_memcpy(&both, from, sizeof both);
  return _mm512_castpd_ps(_mm512_set1_pd(both));
}
LONGFOLD_INLINE Vec fma(Vec a, Vec b, Vec c) {
  return _mm512_fmadd_ps(a, b, c);
}
LONGFOLD_INLINE Vec max(Vec a, Vec b) {
  return _mm512_max_ps(a, b);
}
LONGFOLD_INLINE Vec select_at_most(Vec condition, Vec bound, Vec a, Vec b) {
  return _mm512_mask_mov_ps(b, _mm512_cmp_ps_mask(condition, bound, _CMP_LE_OQ), a);
}
LONGFOLD_INLINE bool any_at_most(Vec condition, Vec bound) {
  return _mm512_cmp_ps_mask(condition, bound, _CMP_LE_OQ) != 0;
}
LONGFOLD_INLINE bool any_above(Vec condition, Vec bound) {
  return _mm512_cmp_ps_mask(condition, bound, _CMP_GT_OQ) != 0;
}
LONGFOLD_INLINE bool all_equal(Vec a, Vec b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ) == 0;
}

LONGFOLD_INLINE Vec sum_or_zero_below(Vec condition, Vec bound, UnsignedVec a, UnsignedVec b) {
  const __mmask16 keep = _mm512_cmp_ps_mask(condition, bound, _CMP_NLT_UQ);
  return _mm512_castsi512_ps(_mm512_maskz_add_epi32(keep, reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
}

LONGFOLD_INLINE Vec widen_float16(ShortVec bits) {
  return _mm512_cvtph_ps(reinterpret_cast<__m256i>(bits));
}
LONGFOLD_INLINE ShortVec narrow_float16(Vec value) {
  return reinterpret_cast<ShortVec>(_mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
}

LONGFOLD_INLINE __mmask16 first_lanes(int64_t count) {
  return static_cast<__mmask16>((1u << count) - 1u);
}
LONGFOLD_INLINE Vec load_part(const float* from, int64_t count) {
  return _mm512_maskz_loadu_ps(first_lanes(count), from);
}
LONGFOLD_INLINE void store_part(float* to, Vec value, int64_t count) {
  _mm512_mask_storeu_ps(to, first_lanes(count), value);
}
LONGFOLD_INLINE ShortVec load_part(const uint16_t* from, int64_t count) {
  return reinterpret_cast<ShortVec>(_mm256_maskz_loadu_epi16(first_lanes(count), from));
}
LONGFOLD_INLINE void store_part(uint16_t* to, ShortVec value, int64_t count) {
  _mm256_mask_storeu_epi16(to, first_lanes(count), reinterpret_cast<__m256i>(value));
}

#ifdef __AVX512BF16__
constexpr bool kHasPairProducts = true;
LONGFOLD_INLINE Vec add_pair_products(Vec a, Vec b, Vec c) {
  return _mm512_dpbf16_ps(c, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}
// Rounded, first the lanes of low, then those of high.
LONGFOLD_INLINE void store_bfloat16(float* words, Vec low, Vec high) {
  const __m512bh halves = _mm512_cvtne2ps_pbh(high, low);
  __builtin_memcpy(words, &halves, sizeof halves);
}
LONGFOLD_INLINE Vec join_bfloat16(Vec low, Vec high) {
  using WordVec [[gnu::vector_size(kWidth * 4)]] = uint16_t;
  constexpr WordVec kInterleave = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                   8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512bh halves = _mm512_cvtne2ps_pbh(high, low);
  return reinterpret_cast<Vec>(
      _mm512_permutexvar_epi16(reinterpret_cast<__m512i>(kInterleave), reinterpret_cast<__m512i>(halves)));
}
#else
constexpr bool kHasPairProducts = false;
#endif

}  // namespace
}  // namespace longfold::kernels
