// AVX-512 (F, BW, DQ, VL). See simd.h.
#pragma once

#include <immintrin.h>

namespace longfold::kernels {
namespace {

constexpr int kWidth = 16;      // floats in a vector
constexpr int kRegisters = 32;  // vectors that the CPU can name

using Vec [[gnu::vector_size(kWidth * 4)]] = float;
using IntVec [[gnu::vector_size(kWidth * 4)]] = int32_t;
using ShortVec [[gnu::vector_size(kWidth * 2)]] = uint16_t;

constexpr IntVec kZipLow = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
constexpr IntVec kZipHigh = {8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};

LONGFOLD_INLINE Vec splat(float value) {
  return _mm512_set1_ps(value);
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
LONGFOLD_INLINE bool all_equal(Vec a, Vec b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ) == 0;
}
LONGFOLD_INLINE float sum(Vec value) {
  return _mm512_reduce_add_ps(value);
}

LONGFOLD_INLINE Vec round_to_whole(Vec x) {
  return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT);
}
LONGFOLD_INLINE Vec scale_by_power(Vec p, Vec x, Vec whole) {
  return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, splat(-126.0f), _CMP_NLT_UQ), p, whole);
}

LONGFOLD_INLINE Vec load_float16(const void* from) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(from)));
}
LONGFOLD_INLINE void store_float16(void* to, Vec value) {
  _mm256_storeu_si256(static_cast<__m256i*>(to), _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
}

}  // namespace
}  // namespace longfold::kernels
