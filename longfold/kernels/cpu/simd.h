// A vector of floats as wide as the instruction set that this file is compiled for, on the compiler's vector types.
// Included only by the one .cpp per instruction set; everything is in an unnamed namespace, so that no function
// compiled for a newer CPU can stand in for one that must run on an older.
//
// Each simd_*.h has the types and what differs: splat, fma; max, where the second operand wins if one is NaN;
// select_at_most(c, bound, a, b), a where c <= bound and b elsewhere; any_at_most, all_equal; sum over the lanes;
// round_to_whole; scale_by_power(p, x, whole) = 2^whole p, exactly zero where x < -126; load and store of float16.
#pragma once

#include <cstdint>

#define LONGFOLD_INLINE [[gnu::always_inline]] inline
#define LONGFOLD_INLINE_LAMBDA __attribute__((always_inline))

#if defined(__AVX512F__)
#include "longfold/kernels/cpu/simd_avx512.h"
#elif defined(__AVX2__)
#include "longfold/kernels/cpu/simd_avx2.h"
#else
#include "longfold/kernels/cpu/simd_portable.h"
#endif

namespace longfold::kernels {
namespace {

LONGFOLD_INLINE Vec load(const float* from) {
  Vec value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}
LONGFOLD_INLINE void store(float* to, Vec value) {
  __builtin_memcpy(to, &value, sizeof value);
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
  return __builtin_shuffle(a, b, kZipLow);
}
LONGFOLD_INLINE Vec zip_high(Vec a, Vec b) {
  return __builtin_shuffle(a, b, kZipHigh);
}

// 2^x by range reduction to [-1/2, 1/2] and a degree-5 minimax polynomial (relative error 7.5e-8, with fp32
// rounding 2.4e-7). Zero for x < -126. Coefficients: Remez exchange on the relative error.
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
