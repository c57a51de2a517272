// What the backward pass wants to know of each query: QueryStatistics, from its log-sum-exp and its delta.
#pragma once

#include "longfold/kernels/cuda/mma/mask.cuh"

namespace longfold::kernels::cuda::mma {

constexpr float kUniform = INFINITY;  // minus_lse of a query whose weights are 1 / Lk

__device__ __forceinline__ float& minus_delta_at(const BackwardParams& params, int b, int n, int h, int query) {
  const Problem& p = params.problem;
  return params.minus_delta[((static_cast<int64_t>(b) * p.N + n) * p.H + h) * p.Lq + query];
}

// As they lie in memory.
struct StoredStatistics {
  float lse, correction, minus_delta;
};

__device__ __forceinline__ StoredStatistics read_statistics(const BackwardParams& params, int b, int n, int h,
                                                            int query) {
  if (query >= params.problem.Lq) return {-INFINITY, 1, 0};
  const auto at = [&](const int64_t (&strides)[4]) {
    return b * strides[0] + n * strides[1] + h * strides[2] + query * strides[3];
  };
  return {params.log_sum_exp[at(params.lse_strides)], params.lse_correction[at(params.correction_strides)],
          minus_delta_at(params, b, n, h, query)};
}

// `shift` is the mask's.
__device__ __forceinline__ QueryStatistics statistics_from(const StoredStatistics& stored, const BackwardParams& params,
                                                           float shift, int query) {
  const Problem& p = params.problem;
  if (query >= p.Lq) return {-INFINITY, 0};
  if (stored.lse <= kHidesAt) return {p.mean_if_masked ? kUniform : -INFINITY, stored.minus_delta};
  // The correction is 1 but for some 1e-7: its logarithm is what it differs by.
  return {((stored.correction - 1) - (stored.lse - shift)) * kLog2E, stored.minus_delta};
}

// Of a block of kStatisticsBlock queries, on their way to shared memory through a producer warp, whose lanes have two
// each.
class StatisticsReader {
 public:
  __device__ void read(const BackwardParams& params, int b, int n, int h, int first) {
    first_ = first + 2 * lane_of_warp();
#pragma unroll
    for (int i = 0; i < 2; ++i) stored_[i] = read_statistics(params, b, n, h, first_ + i);
  }

  // In shared memory they lie one after the other; behind them a word: whether one of them is uniform.
  __device__ void store(uint32_t to, const BackwardParams& params, float shift) const {
    const QueryStatistics x = statistics_from(stored_[0], params, shift, first_);
    const QueryStatistics y = statistics_from(stored_[1], params, shift, first_ + 1);
    ptx::store_shared(to + 16 * lane_of_warp(), float4{x.minus_lse, x.minus_delta, y.minus_lse, y.minus_delta});
    const bool some_uniform = ptx::any(x.minus_lse == kUniform || y.minus_lse == kUniform);
    if (lane_of_warp() == 0) ptx::store_shared(to + 8 * kStatisticsBlock, static_cast<uint32_t>(some_uniform));
  }

 private:
  int first_ = 0;
  StoredStatistics stored_[2] = {};
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

// minus_delta of all queries, from the rounded output: see GradQ::finish. Four lanes for a query.
template <class T>
__device__ void write_minus_delta(const BackwardParams& params, int head_dim) {
  const Problem& p = params.problem;
  const int lane = lane_of_warp(), blocks = (p.Lq + kStatisticsBlock - 1) / kStatisticsBlock;
  const int64_t warps = int64_t{gridDim.x} * blockDim.x / kLanes, all = int64_t{p.B} * p.N * p.H * blocks;
  for (int64_t i = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kLanes; i < all; i += warps) {
    const int first = static_cast<int>(i % blocks) * kStatisticsBlock, h = static_cast<int>(i / blocks % p.H);
    const int n = static_cast<int>(i / blocks / p.H % p.N), b = static_cast<int>(i / blocks / p.H / p.N);
    const char* out = rows_of(params.out, b, n, h);
    const char* grad_out = rows_of(params.grad_out, b, n, h);
#pragma unroll 4
    for (int q = lane / 4; q < kStatisticsBlock; q += kLanes / 4) {
      const int query = min(first + q, p.Lq - 1);
      const float delta = dot_of_rows<T>(params.out, out + 2 * query * params.out.strides[2], params.grad_out,
                                         grad_out + 2 * query * params.grad_out.strides[2], head_dim);
      if (lane % 4 == 0 && first + q < p.Lq) {
        minus_delta_at(params, b, n, h, query) = grad_lse_at(params, b, n, h, query) - delta;
      }
    }
  }
}

}  // namespace longfold::kernels::cuda::mma
