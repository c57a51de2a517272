// Weights of a tile of keys, without a search for the largest logit.
//
// A row's reference, what its logits are taken relative to, is its largest logit among the first keys. It moves, for
// that row alone, only if a thread's sum of weights in a step grows past kLargestSum: a common factor of a row's
// weights costs no digits. Kept as -reference * log2 e, so that a weight is one multiply-add and one exp2.
#pragma once

#include "longfold/kernels/cuda/mma/logits.cuh"

namespace longfold::kernels::cuda::mma {

constexpr float kLargestSum = 4096;  // fp16 holds weights up to 65504

template <int M, int HeadDim>
struct RunningRows {
  float out[M][HeadDim / 8][4];
  float sum[M][2];  // of this thread's keys
  float minus_reference[M][2];
};

// Outputs are sums of weights that are rounded to the type. Divided by the sum of these, not of what they were before,
// the rounding of a weight that counts alone cancels. (In wgmma/ this takes 5 % of the time, and is left out.)
template <int M, int HeadDim>
struct RoundedRows : RunningRows<M, HeadDim> {
  float rounded[M][4];  // accumulators of a product with ones, whose columns are all the same
};

template <class T, int M, int Sixteens, int HeadDim>
__device__ __forceinline__ void add_rounded(RoundedRows<M, HeadDim>& rows, const uint32_t (&weights)[M][Sixteens][4]) {
  const uint32_t ones = ptx::pack<T>(1, 1);
#pragma unroll
  for (int k = 0; k < Sixteens; ++k) {
#pragma unroll
    for (int m = 0; m < M; ++m) ptx::multiply<T>(rows.rounded[m], weights[m][k], ones, ones, rows.rounded[m]);
  }
}

// What the outputs of the lane's own query 2 m + half are divided by, of which `sum` is the sum of weights.
template <int M, int HeadDim>
__device__ __forceinline__ float divisor(const RunningRows<M, HeadDim>&, float sum, int) {
  return sum;
}
template <int M, int HeadDim>
__device__ __forceinline__ float divisor(const RoundedRows<M, HeadDim>& rows, float, int query) {
  float rounded = rows.rounded[0][0];
#pragma unroll
  for (int i = 1; i < 2 * M; ++i) rounded = query == i ? rows.rounded[i / 2][i % 2 * 2] : rounded;
  return rounded;
}

// What a row has summed so far, times a factor.
template <int M, int HeadDim>
__device__ __forceinline__ void scale_sums(RunningRows<M, HeadDim>& rows, int m, int half, float factor) {
  rows.sum[m][half] *= factor;
#pragma unroll
  for (int u = 0; u < HeadDim / 8; ++u) {
    rows.out[m][u][2 * half] *= factor;
    rows.out[m][u][2 * half + 1] *= factor;
  }
}
template <int M, int HeadDim>
__device__ __forceinline__ void scale_sums(RoundedRows<M, HeadDim>& rows, int m, int half, float factor) {
  scale_sums(static_cast<RunningRows<M, HeadDim>&>(rows), m, half, factor);
  rows.rounded[m][2 * half] *= factor;
  rows.rounded[m][2 * half + 1] *= factor;
}

// The rows of the warp, two for each m, of which a thread's sum has grown too large: bits 2 m + half, the same in the
// four lanes that share a row.
template <int M>
__device__ __forceinline__ uint32_t rows_to_move(const float (&sums)[M][2], int lane) {
  uint32_t rows = 0;
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint32_t lanes = ptx::ballot(!(sums[m][half] <= kLargestSum));
      if ((lanes >> (lane & ~3) & 0xfu) != 0) rows |= 1u << (2 * m + half);
    }
  }
  return rows;
}

// Takes up the largest of these logits, of each row in this thread.
template <int M, int Tiles>
__device__ __forceinline__ void find_largest(float (&largest)[M][2], const float (&logits)[M][Tiles][4],
                                             float to_logit) {
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int j = 0; j < Tiles; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) largest[m][i / 2] = fmaxf(largest[m][i / 2], logits[m][j][i] * to_logit);
    }
  }
}

// Moves the references of these rows to their largest logits, but down only if they are the first; what the rows have
// summed so far shrinks with them.
template <int M, int HeadDim>
__device__ __forceinline__ void move_references(RoundedRows<M, HeadDim>& rows, uint32_t which, bool are_first,
                                                const float (&largest)[M][2]) {
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float of_row = fmaxf(largest[m][half], kLowestReference);
      of_row = fmaxf(of_row, ptx::shuffle_xor(of_row, 1));
      of_row = fmaxf(of_row, ptx::shuffle_xor(of_row, 2));
      const float minus = -of_row * kLog2E, old = rows.minus_reference[m][half];
      if ((which >> (2 * m + half) & 1) == 0 || (!are_first && !(minus < old))) continue;
      rows.minus_reference[m][half] = minus;
      if (are_first) continue;
      scale_sums(rows, m, half, ptx::exp2(minus - old));
    }
  }
}

// Logits become weights, which are added to the rows' sums in this thread.
template <int M, int Tiles>
__device__ __forceinline__ void weigh(float (&logits)[M][Tiles][4], float to_log2, const float (&minus_reference)[M][2],
                                      float (&sums)[M][2]) {
#pragma unroll
  for (int j = 0; j < Tiles; ++j) {
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float weight = ptx::exp2(fmaf(logits[m][j][i], to_log2, minus_reference[m][i / 2]));
        logits[m][j][i] = weight;
        sums[m][i / 2] += weight;
      }
    }
  }
}

}  // namespace longfold::kernels::cuda::mma
