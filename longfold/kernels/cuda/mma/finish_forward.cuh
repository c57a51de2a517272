// The end of a row's forward pass: weighted sums become outputs, references and sums log_sum_exp.
#pragma once

#include "longfold/kernels/cuda/mma/fragments.cuh"
#include "longfold/kernels/cuda/mma/mask.cuh"

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

// Of 16 queries from `first` on: `out` and `of_thread` are sums of weights times values and of weights, the latter of
// this thread's keys; minus_reference is that of softmax.cuh. Accumulators may be wider than HeadDim.
//
// All warps of a block come here at a time, for as long as their products wait: each instruction counts.
template <class T, int HeadDim, int Units>
__device__ __forceinline__ void finish_forward(const ForwardParams& params, float (&out)[Units][4],
                                               const float (&of_thread)[2], const float (&minus_reference)[2],
                                               const MaskRow& mask, int b, int n, int h, int first) {
  constexpr float kLn2 = 0.6931471805599453f, kLn2Rest = -1.9046543e-9f;  // ln 2 less its fp32 number
  const Problem& p = params.problem;
  const int lane = lane_of_warp();
  float sums[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    sums[half] = of_thread[half] + ptx::shuffle_xor(of_thread[half], 1);
    sums[half] += ptx::shuffle_xor(sums[half], 2);
  }
  // Of the four lanes that share two queries, even ones look at the first, odd ones at the second.
  const bool is_second = lane % 2 != 0;
  const float sum = is_second ? sums[1] : sums[0];
  const float reference = -(is_second ? minus_reference[1] : minus_reference[0]);  // in units of log2 e
  const float of_reference = fmaf(reference, kLn2, mask.shift);
  const bool all_hidden = reference <= kLowestReference;
  const bool is_masked = (all_hidden || of_reference <= kHidesAt) && sum == sum;
  const float mine = is_masked ? 0 : 1 / sum, other = ptx::shuffle_xor(mine, 1);
  float factor[2] = {is_second ? other : mine, is_second ? mine : other};
  const int query = first + lane % 2 * 8 + lane / 4;
  if (lane % 4 < 2 && query < p.Lq) {
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
    const uint32_t lanes = ptx::ballot(is_masked) >> (lane & ~3);
    const bool masked[2] = {(lanes & 1) != 0, (lanes & 2) != 0};
#pragma unroll
    for (int i = 0; i < HeadDim / 2; ++i) {
      if (masked[i % 4 / 2]) out[i / 4][i % 4] = 0;
    }
    if (p.mean_if_masked) {
      float mean[HeadDim / 8][4];
      mean_of_values<T, HeadDim>(p, b, n, h, mean);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        if (!masked[half]) continue;
        factor[half] = 1;
#pragma unroll
        for (int u = 0; u < HeadDim / 8; ++u) {
          out[u][2 * half] = mean[u][2 * half];
          out[u][2 * half + 1] = mean[u][2 * half + 1];
        }
      }
    }
  }
  store_rows<T, HeadDim>(params.out, rows_of(params.out, b, n, h), first, p.Lq, out, factor);
}

}  // namespace longfold::kernels::cuda::mma
