#include "longfold/kernels/cuda/mma/finish.h"

#include "longfold/kernels/cuda/mma/statistics.cuh"
#include "longfold/kernels/cuda/runtime.h"
#include "longfold/kernels/evoformer/tile_size.h"

namespace longfold::kernels::cuda::mma {
namespace {

constexpr int kThreads = 128;

unsigned num_blocks(int64_t threads) {
  constexpr int64_t kMostBlocks = 0x7fffffff;
  return static_cast<unsigned>(std::min(divide_up(threads, kThreads), kMostBlocks));
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    statistics_kernel(const __grid_constant__ BackwardParams params, int head_dim) {
  write_statistics<T>(params, head_dim);
}

struct GroupSums {
  const float* planes;  // [group, B, H, Lq, Lk], contiguous
  int B, H, groups;     // of the planes
  int Lq, Lk, to_B, to_H;
  float* to;
  int64_t strides[4];
};

// A block for a row of keys.
__global__ void __launch_bounds__(kThreads) sum_of_groups_kernel(const __grid_constant__ GroupSums args) {
  const int64_t rows = int64_t{args.to_B} * args.to_H * args.Lq, plane = int64_t{args.Lq} * args.Lk;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const int64_t i = row % args.Lq, h = row / args.Lq % args.to_H, b = row / args.Lq / args.to_H;
    const int64_t end_b = args.to_B == 1 ? args.B : b + 1, end_h = args.to_H == 1 ? args.H : h + 1;
    float* const to = args.to + b * args.strides[0] + h * args.strides[1] + i * args.strides[2];
    for (int key = static_cast<int>(threadIdx.x); key < args.Lk; key += kThreads) {
      float sum = 0, rest = 0;
      for (int64_t from_b = args.to_B == 1 ? 0 : b; from_b < end_b; ++from_b) {
        for (int64_t from_h = args.to_H == 1 ? 0 : h; from_h < end_h; ++from_h) {
          for (int64_t group = 0; group < args.groups; ++group) {
            const float term = args.planes[((group * args.B + from_b) * args.H + from_h) * plane + i * args.Lk + key];
            const float all = __fadd_rn(sum, term), there = __fsub_rn(all, sum);  // two-sum
            rest += __fadd_rn(__fsub_rn(sum, __fsub_rn(all, there)), __fsub_rn(term, there));
            sum = all;
          }
        }
      }
      to[key * args.strides[3]] = rest == rest ? sum + rest : sum;
    }
  }
}

}  // namespace

template <class T>
void run_statistics(const BackwardParams& params, int head_dim, Stream stream) {
  const Problem& p = params.problem;
  const int64_t warps = int64_t{p.B} * p.N * p.H * (params.statistics_pitch / kStatisticsBlock);
  statistics_kernel<T><<<num_blocks(warps * kLanes), kThreads, 0, stream>>>(params, head_dim);
  check_launch("evoformer_attention_backward");
}

template void run_statistics<bfloat16>(const BackwardParams&, int, Stream);
template void run_statistics<float16>(const BackwardParams&, int, Stream);

void run_sum_of_groups(const float* planes, int groups, const Shape& shape, const TensorView<float, 4>& grad_pair,
                       Stream stream) {
  GroupSums args{.planes = planes,
                 .B = static_cast<int>(shape.B),
                 .H = static_cast<int>(shape.H),
                 .groups = groups,
                 .Lq = static_cast<int>(shape.Lq),
                 .Lk = static_cast<int>(shape.Lk),
                 .to_B = static_cast<int>(grad_pair.sizes[0]),
                 .to_H = static_cast<int>(grad_pair.sizes[1]),
                 .to = grad_pair.data,
                 .strides = {}};
  std::copy(grad_pair.strides.begin(), grad_pair.strides.end(), args.strides);
  sum_of_groups_kernel<<<num_blocks(int64_t{args.to_B} * args.to_H * args.Lq * kThreads), kThreads, 0, stream>>>(args);
  check_launch("evoformer_attention_backward");
}

}  // namespace longfold::kernels::cuda::mma
