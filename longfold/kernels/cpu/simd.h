// A vector of floats as wide as the instruction set that this file is compiled for, on the compiler's vector types.
// Included only by the one .cpp per instruction set; everything is in an unnamed namespace, so that no function
// compiled for a newer CPU can stand in for one that must run on an older.
#pragma once

#include <cstdint>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#define LONGFOLD_INLINE [[gnu::always_inline]] inline
#define LONGFOLD_INLINE_LAMBDA __attribute__((always_inline))

namespace longfold::kernels {
namespace {

#if defined(__AVX512F__)
constexpr int kWidth = 16;      // floats in a vector
constexpr int kRegisters = 32;  // vectors that the CPU can name
#else
constexpr int kWidth = 4;
constexpr int kRegisters = 16;
#endif

using Vec [[gnu::vector_size(kWidth * 4)]] = float;
using IntVec [[gnu::vector_size(kWidth * 4)]] = int32_t;
using ShortVec [[gnu::vector_size(kWidth * 2)]] = uint16_t;

LONGFOLD_INLINE Vec load(const float* from) {
  Vec value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}
LONGFOLD_INLINE void store(float* to, Vec value) {
  __builtin_memcpy(to, &value, sizeof value);
}
LONGFOLD_INLINE Vec splat(float value) {
#if defined(__AVX512F__)
  return _mm512_set1_ps(value);
#else
  return Vec{value, value, value, value};
#endif
}

LONGFOLD_INLINE Vec load_bfloat16(const void* from) {
  ShortVec bits;
  __builtin_memcpy(&bits, from, sizeof bits);
  const IntVec wide = __builtin_convertvector(bits, IntVec) << 16;
  return reinterpret_cast<Vec>(wide);
}

// Rounds to nearest, ties to even; NaN stays NaN.
LONGFOLD_INLINE void store_bfloat16(void* to, Vec value) {
  using UnsignedVec [[gnu::vector_size(kWidth * 4)]] = uint32_t;
  const auto bits = reinterpret_cast<UnsignedVec>(value);
  const UnsignedVec rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const UnsignedVec quiet = (bits >> 16) | 0x40u;
  const auto is_nan = reinterpret_cast<UnsignedVec>(value != value);
  const ShortVec result = __builtin_convertvector((is_nan & quiet) | (~is_nan & rounded), ShortVec);
  __builtin_memcpy(to, &result, sizeof result);
}

// First and second half of a0 b0 a1 b1 ...
LONGFOLD_INLINE Vec zip_low(Vec a, Vec b) {
#if defined(__AVX512F__)
  const IntVec order = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
#else
  const IntVec order = {0, 4, 1, 5};
#endif
  return __builtin_shuffle(a, b, order);
}
LONGFOLD_INLINE Vec zip_high(Vec a, Vec b) {
#if defined(__AVX512F__)
  const IntVec order = {8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
#else
  const IntVec order = {2, 6, 3, 7};
#endif
  return __builtin_shuffle(a, b, order);
}

#if defined(__AVX512F__)

LONGFOLD_INLINE Vec fma(Vec a, Vec b, Vec c) {
  return _mm512_fmadd_ps(a, b, c);
}
// The second operand wins where one is NaN.
LONGFOLD_INLINE Vec max(Vec a, Vec b) {
  return _mm512_max_ps(a, b);
}
// a where condition <= bound, b elsewhere.
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

// 2^round(x) * p for p near 1; exactly zero below 2^-126, so that masked keys weigh nothing at all.
LONGFOLD_INLINE Vec round_to_whole(Vec x) {
  return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT);
}
LONGFOLD_INLINE Vec scale_by_power(Vec p, Vec x, Vec whole) {
  return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, splat(-126.0f), _CMP_NLT_UQ), p, whole);
}

#else

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
  float total = 0;
  for (int i = 0; i < kWidth; ++i) total += value[i];
  return total;
}

// Adding and taking away 1.5 * 2^23 leaves the nearest whole number, whose low bits then are the exponent.
constexpr float kRoundMagic = 12582912.0f;
LONGFOLD_INLINE Vec round_to_whole(Vec x) {
  return (x + kRoundMagic) - kRoundMagic;
}
LONGFOLD_INLINE Vec scale_by_power(Vec p, Vec x, Vec whole) {
  const IntVec exponent = reinterpret_cast<IntVec>(whole + kRoundMagic) << 23;
  const Vec scaled = reinterpret_cast<Vec>(reinterpret_cast<IntVec>(p) + exponent);
  return x < -126.0f ? Vec{} : scaled;
}

#endif

// 2^x by range reduction to [-1/2, 1/2] and a degree-5 minimax polynomial (relative error 7.5e-8). Zero for x < -126.
// Coefficients: Remez exchange on the relative error.
LONGFOLD_INLINE Vec exp2(Vec x) {
  const Vec whole = round_to_whole(x);
  const Vec f = x - whole;
  Vec p = splat(1.3276466847e-03f);
  p = fma(p, f, splat(9.6755412934e-03f));
  p = fma(p, f, splat(5.5507132894e-02f));
  p = fma(p, f, splat(2.4022119725e-01f));
  p = fma(p, f, splat(6.9314696706e-01f));
  p = fma(p, f, splat(1.0000000717e+00f));
  return scale_by_power(p, x, whole);
}

constexpr float kLog2E = 1.4426950408889634f;

// Natural logarithm of positive, normal numbers: x = 2^e m with m in [sqrt 1/2, sqrt 2), and ln m = 2 artanh(t) with
// t = (m - 1) / (m + 1), |t| < 0.172, as a series to t^9.
LONGFOLD_INLINE Vec log(Vec x) {
  const IntVec bits = reinterpret_cast<IntVec>(x);
  const IntVec exponent = (bits - 0x3f3504f3) >> 23;
  const Vec m = reinterpret_cast<Vec>(bits - (exponent << 23));
  const Vec t = (m - 1.0f) / (m + 1.0f);
  const Vec t2 = t * t;
  Vec series = splat(2.0f / 9);
  series = fma(series, t2, splat(2.0f / 7));
  series = fma(series, t2, splat(2.0f / 5));
  series = fma(series, t2, splat(2.0f / 3));
  series = fma(series, t2, splat(2.0f));
  return fma(__builtin_convertvector(exponent, Vec), splat(0.6931471805599453f), t * series);
}

// e^(s - m): the difference is taken in natural units first, so that large logits keep their digits.
LONGFOLD_INLINE Vec exp_difference(Vec s, Vec m) {
  return exp2((s - m) * kLog2E);
}

}  // namespace
}  // namespace longfold::kernels
