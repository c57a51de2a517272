// A vector of floats as wide as the instruction set that this file is compiled for, on the compiler's vector types.
// Included only by the one .cpp per instruction set; everything is in an unnamed namespace, so that no function
// compiled for a newer CPU can stand in for one that must run on an older.
//
// Each simd_*.h has the types and what differs: splat; splat_pair, two neighbours in turn; fma; max, where the second
// operand wins if one is NaN; select_at_most(c, bound, a, b), a where c <= bound and b elsewhere;
// sum_or_zero_below(c, bound, a, b), zero bits where c < bound and a + b elsewhere; any_at_most, any_above, all_equal;
// widen_float16 and narrow_float16. kHasPairProducts says whether there is add_pair_products(a, b, c): c + a.low *
// b.low + a.high * b.high of two bfloat16 in each lane; join_bfloat16(low, high), which rounds two vectors into one of
// such lanes; and store_bfloat16, which stores one after the other.
#pragma once

#include <cstdint>
#include <type_traits>

#define LONGFOLD_INLINE [[gnu::always_inline]] inline
#define LONGFOLD_INLINE_LAMBDA __attribute__((always_inline))

#if defined(__AVX512F__)
#include "longfold/kernels/cpu/simd_avx512.h"
#elif defined(__AVX2__)
#include "longfold/kernels/cpu/simd_avx2.h"
#elif defined(__aarch64__) && !defined(LONGFOLD_PORTABLE)
#include "longfold/kernels/cpu/simd_neon.h"
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

// Never defined where kHasPairProducts is false: for names in branches that are not taken.
template <class V>
V add_pair_products(V a, V b, V c);
template <class V>
V join_bfloat16(V low, V high);
template <class V>
void store_bfloat16(float* words, V low, V high);

// The first `count` elements, zero in the other lanes; more specific overloads are in simd_*.h where there are masks.
template <class T>
LONGFOLD_INLINE auto load_part(const T* from, int64_t count) {
  T values[kWidth] = {};
  for (int64_t i = 0; i < count; ++i) values[i] = from[i];
  std::conditional_t<std::is_same_v<T, float>, Vec, ShortVec> result;
  __builtin_memcpy(&result, values, sizeof result);
  return result;
}
template <class T, class V>
LONGFOLD_INLINE void store_part(T* to, V value, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = value[i];
}

LONGFOLD_INLINE ShortVec load_short(const uint16_t* from) {
  ShortVec value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}
LONGFOLD_INLINE void store_short(uint16_t* to, ShortVec value) {
  __builtin_memcpy(to, &value, sizeof value);
}

LONGFOLD_INLINE Vec widen_bfloat16(ShortVec bits) {
  return reinterpret_cast<Vec>(__builtin_convertvector(bits, IntVec) << 16);
}

// Rounds to nearest, ties to even; NaN stays NaN.
LONGFOLD_INLINE ShortVec narrow_bfloat16(Vec value) {
  const auto bits = reinterpret_cast<UnsignedVec>(value);
  const UnsignedVec rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const UnsignedVec quiet = (bits >> 16) | 0x40u;
  const auto is_nan = reinterpret_cast<UnsignedVec>(value != value);
  return __builtin_convertvector((is_nan & quiet) | (~is_nan & rounded), ShortVec);
}

// First and second half of a0 b0 a1 b1 ...
LONGFOLD_INLINE Vec zip_low(Vec a, Vec b) {
  return __builtin_shuffle(a, b, kZipLow);
}
LONGFOLD_INLINE Vec zip_high(Vec a, Vec b) {
  return __builtin_shuffle(a, b, kZipHigh);
}

// Lane i of the result is the sum over all lanes of rows[i]. Zips as transpose (pack.h) does, adding up on the way.
LONGFOLD_INLINE Vec sums_of_rows(Vec (&rows)[kWidth]) {
#pragma GCC unroll 4
  for (int half = kWidth / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i) rows[i] = zip_low(rows[i], rows[i + half]) + zip_high(rows[i], rows[i + half]);
  }
  return rows[0];
}

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kRoundMagic = 12582912.0f;  // 1.5 * 2^23: after adding it the low bits are the nearest whole number

// e^x of several vectors step by step in turn, so that the CPU need not look far ahead for independent work; exactly
// zero below 2^-126. x = (n + f) ln 2 with f in [-1/2, 1/2]; 2^f (1 + small) is a degree-5 minimax polynomial (Remez
// exchange on the relative error), relative error 7.5e-8; with rounding see docs/numerics.md. n is added to the
// exponent's bits; where it would not fit, the result is thrown away.
template <int K>
LONGFOLD_INLINE void exp(Vec (&x)[K]) {
  const Vec log2e = splat(kLog2E), magic = splat(kRoundMagic);
  Vec shifted[K], f[K], p[K];
  for (int i = 0; i < K; ++i) shifted[i] = fma(x[i], log2e, magic);
  for (int i = 0; i < K; ++i) f[i] = shifted[i] - magic;
  for (int i = 0; i < K; ++i) f[i] = fma(x[i], log2e, -f[i]);
  for (int i = 0; i < K; ++i) p[i] = fma(splat(1.3276466847e-03f), f[i], splat(9.6755412934e-03f));
  for (int i = 0; i < K; ++i) p[i] = fma(p[i], f[i], splat(5.5507132894e-02f));
  for (int i = 0; i < K; ++i) p[i] = fma(p[i], f[i], splat(2.4022119725e-01f));
  for (int i = 0; i < K; ++i) p[i] = fma(p[i], f[i], splat(6.9314696706e-01f));
  for (int i = 0; i < K; ++i) p[i] = fma(p[i], f[i], splat(1.0000000717e+00f));
  for (int i = 0; i < K; ++i) {
    const UnsignedVec exponent = reinterpret_cast<UnsignedVec>(shifted[i]) << 23;
    x[i] = sum_or_zero_below(x[i], splat(-87.33654f), reinterpret_cast<UnsignedVec>(p[i]), exponent);
  }
}
LONGFOLD_INLINE Vec exp(Vec x) {
  Vec one[] = {x};
  exp(one);
  return one[0];
}

// e^x for |x| < 87, as `exp` rounds x to n + f, with what the result's rounding left out, relative to it: series of 2^f
// to f^7, relative error 3e-8.
LONGFOLD_INLINE Vec exp_with_rest(Vec x, Vec& rest) {
  const Vec log2e = splat(kLog2E), magic = splat(kRoundMagic);
  const Vec shifted = fma(x, log2e, magic);
  const Vec f = fma(x, log2e, -(shifted - magic));
  Vec q = fma(splat(1.5252733805e-05f), f, splat(1.5403530394e-04f));
  q = fma(q, f, splat(1.3333558146e-03f));
  q = fma(q, f, splat(9.6181291076e-03f));
  q = fma(q, f, splat(5.5504108665e-02f));
  q = fma(q, f, splat(2.4022650696e-01f));
  q = fma(q, f, splat(6.9314718056e-01f));
  const Vec more = q * f, p = 1.0f + more;
  rest = (more - (p - 1.0f)) / p;
  const UnsignedVec exponent = reinterpret_cast<UnsignedVec>(shifted) << 23;
  return reinterpret_cast<Vec>(reinterpret_cast<UnsignedVec>(p) + exponent);
}

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
  return exp(s - m);
}

}  // namespace
}  // namespace longfold::kernels
