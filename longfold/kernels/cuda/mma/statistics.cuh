// What the backward pass wants to know of each query: QueryStatistics, in blocks of kStatisticsBlock queries, each with
// a word behind it: whether a query of the block has weights of 1 / Lk. A warp for a block.
#pragma once

#include "longfold/kernels/cuda/mma/mask.cuh"

namespace longfold::kernels::cuda::mma {

constexpr float kUniform = INFINITY;  // minus_lse of a query whose weights are 1 / Lk

// Bytes from the first to the block of this b, n, h and query.
__host__ __device__ inline int64_t statistics_offset(const Problem& p, int64_t b, int64_t n, int64_t h, int64_t query) {
  const int64_t blocks = (p.Lq + kStatisticsBlock - 1) / kStatisticsBlock;
  return (((b * p.N + n) * p.H + h) * blocks + query / kStatisticsBlock) * kStatisticsBytes;
}

__device__ __forceinline__ QueryStatistics statistics_at(const BackwardParams& params, int b, int n, int h, int query) {
  if (query >= params.problem.Lq) return {-INFINITY, 0};
  const char* block =
      reinterpret_cast<const char*>(params.statistics) + statistics_offset(params.problem, b, n, h, query);
  return reinterpret_cast<const QueryStatistics*>(block)[query % kStatisticsBlock];
}

__device__ __forceinline__ void correct_delta(const BackwardParams& params, int b, int n, int h, int query,
                                              float minus_delta) {
  char* block = reinterpret_cast<char*>(params.statistics) + statistics_offset(params.problem, b, n, h, query);
  reinterpret_cast<QueryStatistics*>(block)[query % kStatisticsBlock].minus_delta = minus_delta;
}

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

// Of a query that is there; by four lanes, all of the warp at once.
template <class T>
__device__ QueryStatistics statistics_of(const BackwardParams& params, int head_dim, float shift, int b, int n, int h,
                                         int query) {
  const Problem& p = params.problem;
  const auto at = [&](const int64_t (&strides)[4]) {
    return b * strides[0] + n * strides[1] + h * strides[2] + query * strides[3];
  };
  const float lse = params.log_sum_exp[at(params.lse_strides)];
  const bool masked = lse <= kHidesAt;
  const char* out = rows_of(params.out, b, n, h) + 2 * query * params.out.strides[2];
  const char* grad_out = rows_of(params.grad_out, b, n, h) + 2 * query * params.grad_out.strides[2];
  float minus_delta = -dot_of_rows<T>(params.out, out, params.grad_out, grad_out, head_dim);
  minus_delta += grad_lse_at(params, b, n, h, query);
  if (masked && !p.mean_if_masked) return {-INFINITY, 0};
  if (masked) return {kUniform, minus_delta};
  return {-((lse - shift) * kLog2E - log2f(params.lse_correction[at(params.correction_strides)])), minus_delta};
}

template <class T>
__device__ void write_statistics(const BackwardParams& params, int head_dim) {
  const Problem& p = params.problem;
  const int blocks = (p.Lq + kStatisticsBlock - 1) / kStatisticsBlock, lane = lane_of_warp();
  const int64_t warps = int64_t{gridDim.x} * blockDim.x / kLanes, all = int64_t{p.B} * p.N * p.H * blocks;
  for (int64_t i = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kLanes; i < all; i += warps) {
    const int first = static_cast<int>(i % blocks) * kStatisticsBlock, h = static_cast<int>(i / blocks % p.H);
    const int n = static_cast<int>(i / blocks / p.H % p.N), b = static_cast<int>(i / blocks / p.H / p.N);
    const float shift = shift_of_row(p.mask, bias_offset(p.mask, b, n, h), p.Lk);
    char* const to = reinterpret_cast<char*>(params.statistics) + i * kStatisticsBytes;
    bool is_mean = false;
#pragma unroll 4
    for (int q = lane / 4; q < kStatisticsBlock; q += kLanes / 4) {
      QueryStatistics found = statistics_of<T>(params, head_dim, shift, b, n, h, min(first + q, p.Lq - 1));
      if (first + q >= p.Lq) found = {-INFINITY, 0};
      if (lane % 4 == 0) reinterpret_cast<QueryStatistics*>(to)[q] = found;
      is_mean |= found.minus_lse == kUniform;
    }
    is_mean = ptx::any(is_mean);
    if (lane < 4) reinterpret_cast<uint32_t*>(to + 8 * kStatisticsBlock)[lane] = is_mean;
  }
}

// Blocks of them, into shared memory kStatisticsBytes apart, by one producer warp; `query` is the first one's.
__device__ __forceinline__ void load_statistics(uint32_t to, const BackwardParams& params, int b, int n, int h,
                                                int query, int num_blocks) {
  const Problem& p = params.problem;
  const char* from = reinterpret_cast<const char*>(params.statistics) + statistics_offset(p, b, n, h, query);
  const int there = ((p.Lq + kStatisticsBlock - 1) / kStatisticsBlock - query / kStatisticsBlock) * kStatisticsBytes;
  for (int byte = 16 * lane_of_warp(); byte < num_blocks * kStatisticsBytes; byte += 16 * kLanes) {
    ptx::copy_async(to + byte, from + byte, byte < there);
  }
}

}  // namespace longfold::kernels::cuda::mma
