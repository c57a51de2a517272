// The end of a row's forward pass: weighted sums become outputs, references and sums log_sum_exp.
#pragma once

#include "longfold/kernels/cuda/mma/fragments.cuh"
#include "longfold/kernels/cuda/mma/mask.cuh"
#include "longfold/kernels/cuda/mma/softmax.cuh"

namespace longfold::kernels::cuda::mma {

// The mean of v, as accumulators hold it.
template <class T, int HeadDim>
__device__ void mean_of_values(const Problem& p, int b, int n, int h, float (&mean)[HeadDim / 8][4]) {
  const int lane = lane_of_warp();
  const char* values = rows_of(p.v, b, n, h) + 4 * (lane % 4) * p.v.strides[4];
  float sums[HeadDim / 8][2] = {};
  for (int key = lane / 4; key < p.Lk; key += 8) {
    const char* from = values + 2 * key * p.v.strides[2];
#pragma unroll
    for (int i = 0; i < HeadDim / 4; ++i) {
      const char* at = from + 2 * (i / 2 * 8 + i % 2) * p.v.strides[4];
      sums[i / 2][i % 2] += ptx::unpack<T>(*reinterpret_cast<const uint16_t*>(at)).x;
    }
  }
#pragma unroll
  for (int i = 0; i < HeadDim / 4; ++i) {
    float sum = sums[i / 2][i % 2];
    for (int far = 4; far < kLanes; far *= 2) sum += ptx::shuffle_xor(sum, far);
    mean[i / 2][i % 2] = mean[i / 2][2 + i % 2] = sum / static_cast<float>(p.Lk);
  }
}

// The sums of four lanes that share 2 M queries: each lane gets that of its own one, which is query 2 m + half of them
// with lane % (2 M) = 2 m + half.
template <int M>
__device__ __forceinline__ float sum_of_lanes(const float (&of_thread)[M][2], int lane) {
  static_assert(M == 1 || M == 2);
  const auto exchange = [&](float first, float second, bool has_second, int far) {
    return (has_second ? second : first) + ptx::shuffle_xor(has_second ? first : second, far);
  };
  float sums[M];
#pragma unroll
  for (int m = 0; m < M; ++m) sums[m] = exchange(of_thread[m][0], of_thread[m][1], lane % 2 != 0, 1);
  return exchange(sums[0], sums[M - 1], M == 2 && lane / 2 % 2 != 0, 2);
}

// Of M times 16 queries, `Apart` from each other, the first one being `first`. Accumulators may be wider than HeadDim.
//
// All warps of a block come here at a time, for as long as their products wait: each instruction counts.
template <class T, int HeadDim, int Apart, template <int, int> class Running, int M, int Wide>
__device__ __forceinline__ void finish_forward(const ForwardParams& params, Running<M, Wide>& rows, const MaskRow& mask,
                                               int b, int n, int h, int first) {
  constexpr float kLn2 = 0.6931471805599453f, kLn2Rest = -1.9046543e-9f;  // ln 2 less its fp32 number
  const Problem& p = params.problem;
  const int lane = lane_of_warp(), mine = lane % (2 * M);
  const float sum = sum_of_lanes(rows.sum, lane);
  float minus = rows.minus_reference[0][0];
#pragma unroll
  for (int i = 1; i < 2 * M; ++i) minus = mine == i ? rows.minus_reference[i / 2][i % 2] : minus;
  const float reference = -minus;  // in units of log2 e
  const float of_reference = fmaf(reference, kLn2, mask.shift);
  const bool all_hidden = reference <= kLowestReference;
  const bool is_masked = (all_hidden || of_reference <= kHidesAt) && sum == sum;
  const float my_factor = is_masked ? 0 : 1 / divisor(rows, sum, mine);
  float factor[M][2];
#pragma unroll
  for (int i = 0; i < 2 * M; ++i) factor[i / 2][i % 2] = ptx::of_lane(my_factor, (lane & ~3) + i);
  const int query = first + mine / 2 * Apart + mine % 2 * 8 + lane / 4;
  if (lane % 4 < 2 * M && query < p.Lq) {
    const float log_of_sum = logf(sum);
    float lse = of_reference + log_of_sum;
    // What roundings left out of reference * ln 2 + shift + log_of_sum.
    const float rest = fmaf(reference, kLn2, -lse) + mask.shift;
    float correction = 1 - (rest + (log_of_sum + reference * kLn2Rest));
    if (is_masked) {
      lse = all_hidden ? mask.largest : of_reference;
      if (p.mask.dtype == DType::kBool) lse = fmaxf(lse, mask.largest);
      correction = 1;
    }
    const int64_t at = b * params.lse_strides[0] + n * params.lse_strides[1] + h * params.lse_strides[2] +
                       query * params.lse_strides[3];
    params.log_sum_exp[at] = lse;
    params.lse_correction[at] = correction;
  }
  if (ptx::any(is_masked)) {
    const uint32_t masked = ptx::ballot(is_masked) >> (lane & ~3);
    float mean[HeadDim / 8][4] = {};
    if (p.mean_if_masked) mean_of_values<T, HeadDim>(p, b, n, h, mean);
#pragma unroll
    for (int i = 0; i < 2 * M; ++i) {
      if ((masked >> i & 1) == 0) continue;
      factor[i / 2][i % 2] = 1;
#pragma unroll
      for (int u = 0; u < HeadDim / 8; ++u) {
        rows.out[i / 2][u][i % 2 * 2] = mean[u][i % 2 * 2];
        rows.out[i / 2][u][i % 2 * 2 + 1] = mean[u][i % 2 * 2 + 1];
      }
    }
  }
#pragma unroll
  for (int m = 0; m < M; ++m) {
    store_rows<T, HeadDim>(params.out, rows_of(params.out, b, n, h), first + m * Apart, p.Lq, rows.out[m], factor[m]);
  }
}

}  // namespace longfold::kernels::cuda::mma
