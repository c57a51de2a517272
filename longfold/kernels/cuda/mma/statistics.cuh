// What the backward pass wants to know of each query: QueryStatistics, from its log-sum-exp and its delta.
#pragma once

#include "longfold/kernels/cuda/mma/mask.cuh"

namespace longfold::kernels::cuda::mma {

constexpr float kUniform = INFINITY;  // minus_lse of a query whose weights are 1 / Lk

// Of the first query of a b, n and head; others follow.
__device__ __forceinline__ QueryStatistics* statistics_of(const BackwardParams& params, int b, int n, int h) {
  const Problem& p = params.problem;
  return params.statistics + ((static_cast<int64_t>(b) * p.N + n) * p.H + h) * params.statistics_pitch;
}

struct LogSumExp {
  float value, correction;
};
__device__ __forceinline__ LogSumExp log_sum_exp_at(const BackwardParams& params, int b, int n, int h, int query) {
  const auto at = [&](const int64_t (&strides)[4]) {
    return b * strides[0] + n * strides[1] + h * strides[2] + query * strides[3];
  };
  return {params.log_sum_exp[at(params.lse_strides)], params.lse_correction[at(params.correction_strides)]};
}

// `shift` is the mask's.
__device__ __forceinline__ float minus_lse(const LogSumExp& lse, float shift, bool mean_if_masked) {
  if (lse.value <= kHidesAt) return mean_if_masked ? kUniform : -INFINITY;
  // The correction is 1 but for some 1e-7: its logarithm is what it differs by.
  return ((lse.correction - 1) - (lse.value - shift)) * kLog2E;
}

// Of a block of kStatisticsBlock queries, on their way to shared memory through a producer warp, whose lanes have two
// each.
class StatisticsReader {
 public:
  __device__ void read(const BackwardParams& params, int b, int n, int h, int first) {
    if (first < params.statistics_pitch) {
      two_ = reinterpret_cast<const float4*>(statistics_of(params, b, n, h) + first)[lane_of_warp()];
    }
  }

  // In shared memory they lie one after the other; behind them a word: whether one of them is uniform.
  __device__ void store(uint32_t to) const {
    ptx::store_shared(to + 16 * lane_of_warp(), two_);
    const bool some_uniform = ptx::any(two_.x == kUniform || two_.z == kUniform);
    if (lane_of_warp() == 0) ptx::store_shared(to + 8 * kStatisticsBlock, static_cast<uint32_t>(some_uniform));
  }

 private:
  float4 two_ = {};
};

__device__ __forceinline__ float grad_lse_at(const BackwardParams& params, int b, int n, int h, int query) {
  const int64_t* s = params.grad_lse_strides;
  if (params.grad_log_sum_exp == nullptr) return 0;
  return params.grad_log_sum_exp[b * s[0] + n * s[1] + h * s[2] + query * s[3]];
}

struct alignas(16) Unit {
  uint32_t words[4];
};

// The sum of products of two rows of HeadDim elements, by four lanes that return the same.
template <class T>
__device__ float dot_of_rows(const Rows& a, const char* row_a, const Rows& b, const char* row_b, int head_dim) {
  float sum = 0;
  const int part = lane_of_warp() % 4;
  if (a.in_units && b.in_units) {
    for (int unit = part; unit < head_dim / 8; unit += 4) {
      const Unit of_a = reinterpret_cast<const Unit*>(row_a)[unit], of_b = reinterpret_cast<const Unit*>(row_b)[unit];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float2 x = ptx::unpack<T>(of_a.words[i]), y = ptx::unpack<T>(of_b.words[i]);
        sum = fmaf(x.x, y.x, sum);
        sum = fmaf(x.y, y.y, sum);
      }
    }
  } else {
    for (int unit = part; unit < head_dim / 8; unit += 4) {
      for (int d = 8 * unit; d < 8 * unit + 8; ++d) {
        const float x = ptx::unpack<T>(*reinterpret_cast<const uint16_t*>(row_a + 2 * d * a.strides[4])).x;
        const float y = ptx::unpack<T>(*reinterpret_cast<const uint16_t*>(row_b + 2 * d * b.strides[4])).x;
        sum = fmaf(x, y, sum);
      }
    }
  }
  sum += ptx::shuffle_xor(sum, 1);
  return sum + ptx::shuffle_xor(sum, 2);
}

// The statistics of all queries, delta from the rounded output: see GradQ::finish. Four lanes for a query.
template <class T>
__device__ void write_statistics(const BackwardParams& params, int head_dim) {
  const Problem& p = params.problem;
  const int lane = lane_of_warp(), blocks = static_cast<int>(params.statistics_pitch) / kStatisticsBlock;
  const int64_t warps = int64_t{gridDim.x} * blockDim.x / kLanes, all = int64_t{p.B} * p.N * p.H * blocks;
  for (int64_t i = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kLanes; i < all; i += warps) {
    const int first = static_cast<int>(i % blocks) * kStatisticsBlock, h = static_cast<int>(i / blocks % p.H);
    const int n = static_cast<int>(i / blocks / p.H % p.N), b = static_cast<int>(i / blocks / p.H / p.N);
    const char* out = rows_of(params.out, b, n, h);
    const char* grad_out = rows_of(params.grad_out, b, n, h);
    const float shift = shift_of_row(p.mask, bias_offset(p.mask, b, n, h), p.Lk);
    QueryStatistics* const to = statistics_of(params, b, n, h) + first;
#pragma unroll 4
    for (int q = lane / 4; q < kStatisticsBlock; q += kLanes / 4) {
      const int query = min(first + q, p.Lq - 1);
      const float delta = dot_of_rows<T>(params.out, out + 2 * query * params.out.strides[2], params.grad_out,
                                         grad_out + 2 * query * params.grad_out.strides[2], head_dim);
      if (lane % 4 != 0) continue;
      to[q] = first + q < p.Lq
                  ? QueryStatistics{minus_lse(log_sum_exp_at(params, b, n, h, query), shift, p.mean_if_masked),
                                    grad_lse_at(params, b, n, h, query) - delta}
                  : QueryStatistics{-INFINITY, 0};
    }
  }
}

}  // namespace longfold::kernels::cuda::mma
