// AVX2 with FMA and F16C. See simd.h.
#pragma once

#include <immintrin.h>

namespace longfold::kernels {
namespace {

constexpr int kWidth = 8;       // floats in a vector
constexpr int kRegisters = 16;  // vectors that the CPU can name

using Vec [[gnu::vector_size(kWidth * 4)]] = float;
using IntVec [[gnu::vector_size(kWidth * 4)]] = int32_t;
using ShortVec [[gnu::vector_size(kWidth * 2)]] = uint16_t;

constexpr IntVec kZipLow = {0, 8, 1, 9, 2, 10, 3, 11};
constexpr IntVec kZipHigh = {4, 12, 5, 13, 6, 14, 7, 15};

LONGFOLD_INLINE Vec splat(float value) {
  return _mm256_set1_ps(value);
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
LONGFOLD_INLINE bool all_equal(Vec a, Vec b) {
  return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_NEQ_UQ)) == 0;
}
LONGFOLD_INLINE float sum(Vec value) {
  const __m128 half = _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
  const __m128 pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
}

LONGFOLD_INLINE Vec round_to_whole(Vec x) {
  return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
LONGFOLD_INLINE Vec scale_by_power(Vec p, Vec x, Vec whole) {
  const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(whole), 23);
  const __m256 scaled = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), exponent));
  return _mm256_and_ps(scaled, _mm256_cmp_ps(x, splat(-126.0f), _CMP_NLT_UQ));
}

LONGFOLD_INLINE Vec load_float16(const void* from) {
  return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(from)));
}
LONGFOLD_INLINE void store_float16(void* to, Vec value) {
  _mm_storeu_si128(static_cast<__m128i*>(to), _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
}

}  // namespace
}  // namespace longfold::kernels
