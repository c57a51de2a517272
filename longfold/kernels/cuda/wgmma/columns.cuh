// Numbers of queries and keys that products add to logits, so that adding them costs no thread an instruction.
//
// Products are 16 elements deeper. A query's are
//     1, three parts of minus its log_sum_exp, three parts of minus its delta, a shift, 0 ...,
// a key's in products with k its own number (mma/mask.cuh: hidden keys) and the three parts' factors, in products with
// v the factors where delta's parts are. A part has the type's own digits: three of them hold what fp32 does. In
// grad_kv, whose rows are keys, these are the first factors and those of queries lie in shared memory.
//
// Tensor cores cut what they add to the digits of the largest term. A log_sum_exp of 1e4 would cost logits what they
// have below 1e-3, where a pair bias of that size is added later. So each 64 queries have a shift near their
// log_sum_exp, which is added with the bias; only the rest is in the parts. No factor meets it.
#pragma once

#include "longfold/kernels/cuda/mma/statistics.cuh"
#include "longfold/kernels/cuda/wgmma/products.cuh"

namespace longfold::kernels::cuda::wgmma {

using mma::ColumnTile;

// That no logit exceeds: what is minus infinity else, for parts can't be.
template <class T>
inline constexpr float kLowestNumber = std::is_same_v<T, bfloat16> ? -1e30f : -65504.0f * 32768.0f;

// The parts of a number add up to it but for some 2^-27 of it.
template <class T>
__device__ __forceinline__ void split(float (&parts)[3], float number) {
#pragma unroll
  for (int i = 0; i < 3; ++i) {
    const float factor = mma::factor_of_part<T>(i);
    parts[i] = ptx::unpack<T>(ptx::pack<T>(number / factor, 0)).x;
    number = fmaf(-parts[i], factor, number);
  }
}

// The shift of 64 queries of which one has this log_sum_exp: a number of the type, in units of log2 e.
template <class T>
__device__ __forceinline__ float shift_near(const mma::LogSumExp& lse, float mask_shift) {
  const float number = mma::minus_lse(lse, mask_shift, false);
  return fabsf(number) <= 65504 ? ptx::unpack<T>(ptx::pack<T>(number, 0)).x : 0;
}
// Minus a log_sum_exp less its shift, in units of log2 e: what large numbers round off each other is not lost.
__device__ __forceinline__ float minus_lse_beyond(float shift, const mma::LogSumExp& lse, float mask_shift) {
  if (lse.value <= mma::kHidesAt) return -INFINITY;
  const float value = lse.value - mask_shift, taken = value - lse.value;
  const float rest = (lse.value - (value - taken)) - (mask_shift + taken);
  return fmaf(-value, mma::kLog2E, -shift) + ((lse.correction - 1) - rest) * mma::kLog2E;
}
// As it lies in a ColumnTile of those queries.
template <class T>
__device__ __forceinline__ float load_shift(uint32_t columns) {
  return ptx::unpack<T>(ptx::load_shared<uint32_t>(ColumnTile::unit(columns, 0, 0) + 12)).y;
}

// Two elements of a query: the 2 (lane % 4)'th and the next. minus_lse, less the shift, is in units of log2 e.
template <class T>
__device__ __forceinline__ uint32_t columns_of_query(float minus_lse, float minus_delta, float shift, float to_log2,
                                                     int lane) {
  const int pair = lane % 4;
  const float in_products = minus_lse / to_log2;
  const float number = pair >= 2 ? minus_delta : in_products < kLowestNumber<T> ? kLowestNumber<T> : in_products;
  float parts[3];
  split<T>(parts, number);
  const float first = pair == 0 ? 1 : pair == 1 ? parts[1] : pair == 2 ? parts[0] : parts[2];
  const float second = pair == 0 ? parts[0] : pair == 1 ? parts[2] : pair == 2 ? parts[1] : shift;
  return ptx::pack<T>(first, second);
}

// The factors in a row's elements of parts, two at a time: of log_sum_exp, else of delta.
template <class T>
__device__ __forceinline__ uint32_t factors(int pair, bool of_lse) {
  constexpr uint32_t kFirst = mma::bits_of_factor<T>(0), kSecond = mma::bits_of_factor<T>(1);
  constexpr uint32_t kThird = mma::bits_of_factor<T>(2);
  const uint32_t here =
      of_lse ? (pair == 0 ? kFirst << 16 : kSecond | kThird << 16) : (pair == 2 ? kFirst | kSecond << 16 : kThird);
  return pair / 2 == (of_lse ? 0 : 1) ? here : 0;
}

// A ColumnTile with 64 times the same row: word(pair) has two of its elements. By all threads of a block; before
// products read it they call ptx::fence_stores_to_products() and meet.
template <class Word>
__device__ __forceinline__ void store_rows_of(uint32_t to, const Word& word) {
  static_assert(ColumnTile::kUnits == 2);
  const int row = static_cast<int>(threadIdx.x) / 2, unit = static_cast<int>(threadIdx.x) % 2, pair = 4 * unit;
  if (row >= ColumnTile::kRows) return;
  ptx::store_shared(ColumnTile::unit(to, row, unit), uint4{word(pair), word(pair + 1), word(pair + 2), word(pair + 3)});
}
template <class T>
__device__ __forceinline__ void store_factors(uint32_t to, bool of_lse) {
  store_rows_of(to, [&](int pair) { return factors<T>(pair, of_lse); });
}

// A lane's two queries of 16 from `first` on, as columns_of_query() made them but with another delta; those beyond the
// last one are stored too, there is room.
template <class T>
__device__ __forceinline__ void store_columns(const mma::Rows& to, const uint32_t (&columns)[4],
                                              const float (&minus_delta)[2], float shift, int b, int n, int h,
                                              int first, int lane) {
  auto* const words = reinterpret_cast<uint32_t*>(const_cast<char*>(mma::rows_of(to, b, n, h)));
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t query = first + 8 * half + lane / 4;
    const uint32_t word = columns_of_query<T>(0, minus_delta[half], shift, 1, lane);
    words[query * to.strides[2] / 2 + lane % 4] = lane % 4 < 2 ? columns[half] : word;
  }
}

// The products of 16 rows of a and b: a lane's two, the same in the four lanes that share them.
template <class T, int Deep>
__device__ __forceinline__ void dot_of_rows(float (&dots)[2], const uint32_t (&a)[Deep][4],
                                            const uint32_t (&b)[Deep][4]) {
  dots[0] = dots[1] = 0;
#pragma unroll
  for (int i = 0; i < 4 * Deep; ++i) {
    const float2 x = ptx::unpack<T>(a[i / 4][i % 4]), y = ptx::unpack<T>(b[i / 4][i % 4]);
    dots[i % 2] = fmaf(x.y, y.y, fmaf(x.x, y.x, dots[i % 2]));
  }
#pragma unroll
  for (float& dot : dots) {
    dot += ptx::shuffle_xor(dot, 1);
    dot += ptx::shuffle_xor(dot, 2);
  }
}

// s += products of columns: the end of a chain, so that sums grow large in its last step alone. `rows`: a ColumnTile's.
// The first factors stay while it runs: a lane's words are of its two rows, the other two zero.
template <class T>
__device__ __forceinline__ void add_columns(float (&s)[8][4], const uint32_t (&of_lane)[4], uint32_t rows) {
  ptx::add_async<T>(s, of_lane, descriptor<ColumnTile>(rows / 16));
}
template <class T>
__device__ __forceinline__ void add_columns(float (&s)[8][4], RowsInPlace<ColumnTile> a, uint32_t rows) {
  ptx::add_async<T>(s, descriptor<ColumnTile>(a.at / 16), descriptor<ColumnTile>(rows / 16));
}

// sum += the sums of rows of 64 by 64 numbers: in each thread those of its two rows, twice. `ones`: a ColumnTile of
// them.
template <class T>
__device__ __forceinline__ void start_row_sums(float (&sum)[1][4], const uint32_t (&a)[4][4], uint32_t ones) {
#pragma unroll
  for (int k = 0; k < 4; ++k) ptx::add_async<T>(sum, a[k], descriptor<ColumnTile>(ones / 16));
}

}  // namespace longfold::kernels::cuda::wgmma
