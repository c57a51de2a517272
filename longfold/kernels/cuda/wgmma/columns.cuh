// Numbers of queries and keys that products add to logits, so that adding them costs no thread an instruction.
//
// Products are 16 elements deeper. A query's are
//     1, three parts of minus its log_sum_exp, three parts of minus its delta, 0 ...,
// a key's in products with k its own number (mma/mask.cuh: hidden keys) and the three parts' factors, in products with
// v the factors where delta's parts are. A part has the type's own digits: three of them hold what fp32 does. In
// grad_kv, whose rows are keys, these are the first factors and those of queries lie in shared memory.
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

// Two elements of a query: the 2 (lane % 4)'th and the next. minus_lse is in units of log2 e.
template <class T>
__device__ __forceinline__ uint32_t columns_of_query(float minus_lse, float minus_delta, float to_log2, int lane) {
  const int pair = lane % 4;
  const float in_products = minus_lse / to_log2;
  const float number = pair >= 2 ? minus_delta : in_products < kLowestNumber<T> ? kLowestNumber<T> : in_products;
  float parts[3];
  split<T>(parts, number);
  return pair == 0   ? ptx::pack<T>(1, parts[0])
         : pair == 1 ? ptx::pack<T>(parts[1], parts[2])
         : pair == 2 ? ptx::pack<T>(parts[0], parts[1])
                     : ptx::pack<T>(parts[2], 0);
}

// The factors in a row's elements of parts: of log_sum_exp, else of delta.
template <class T>
__device__ __forceinline__ uint32_t factors(int pair, bool of_lse) {
  const uint32_t first = ptx::pack<T>(0, mma::factor_of_part<T>(0));
  const uint32_t rest = ptx::pack<T>(mma::factor_of_part<T>(1), mma::factor_of_part<T>(2));
  if (of_lse) return pair == 0 ? first : pair == 1 ? rest : 0;
  return pair == 2   ? ptx::pack<T>(mma::factor_of_part<T>(0), mma::factor_of_part<T>(1))
         : pair == 3 ? ptx::pack<T>(mma::factor_of_part<T>(2), 0)
                     : 0;
}

// 64 rows of them. By all threads of a block, which meet afterwards.
template <class T>
__device__ __forceinline__ void store_factors(uint32_t to, bool of_lse) {
  for (int row = static_cast<int>(threadIdx.x); row < mma::kTileKeys; row += static_cast<int>(blockDim.x)) {
    for (int pair = 0; pair < 8; ++pair) {
      ptx::store_shared(ColumnTile::unit(to, row, pair / 4) + pair % 4 * 4, factors<T>(pair, of_lse));
    }
  }
  ptx::fence_stores_to_products();
}

// A lane's two queries of 16 from `first` on; those beyond the last one are stored too, there is room.
template <class T>
__device__ __forceinline__ void store_columns(const mma::Rows& to, const float (&minus_lse)[2],
                                              const float (&minus_delta)[2], int b, int n, int h, int first,
                                              float to_log2, int lane) {
  auto* const words = reinterpret_cast<uint32_t*>(const_cast<char*>(mma::rows_of(to, b, n, h)));
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t query = first + 8 * half + lane / 4;
    words[query * to.strides[2] / 2 + lane % 4] =
        columns_of_query<T>(minus_lse[half], minus_delta[half], to_log2, lane);
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

// s = the sums of products of columns alone: the start of a chain. `rows`: a ColumnTile's.
template <class T>
__device__ __forceinline__ void start_with_columns(float (&s)[8][4], const uint32_t (&of_lane)[2], uint32_t rows) {
  const uint32_t a[4] = {of_lane[0], of_lane[1], 0, 0};
  ptx::multiply_async<T>(s, a, descriptor<ColumnTile>(rows / 16));
}
template <class T>
__device__ __forceinline__ void start_with_columns(float (&s)[8][4], RowsInPlace<ColumnTile> a, uint32_t rows) {
  ptx::multiply_async<T>(s, descriptor<ColumnTile>(a.at / 16), descriptor<ColumnTile>(rows / 16));
}

}  // namespace longfold::kernels::cuda::wgmma
