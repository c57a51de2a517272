#include "longfold/kernels/cuda/mma/finish.h"

#include "longfold/kernels/cuda/mma/statistics.cuh"
#include "longfold/kernels/cuda/runtime.h"
#include "longfold/kernels/tile_size.h"

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
  const float* planes;
  int B, N, H, groups;  // of the planes
  int64_t plane;        // elements
  int Lk, to_B, to_H;
  float* to;
  int64_t strides[4];
};

__global__ void __launch_bounds__(kThreads) sum_of_groups_kernel(const __grid_constant__ GroupSums args) {
  const int64_t all = int64_t{args.to_B} * args.to_H * args.plane;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < all; i += int64_t{gridDim.x} * kThreads) {
    const int64_t place = i % args.plane, h = i / args.plane % args.to_H, b = i / args.plane / args.to_H;
    float sum = 0, rest = 0;
    for (int from_b = args.to_B == 1 ? 0 : static_cast<int>(b); from_b < (args.to_B == 1 ? args.B : b + 1); ++from_b) {
      for (int from_h = args.to_H == 1 ? 0 : static_cast<int>(h); from_h < (args.to_H == 1 ? args.H : h + 1);
           ++from_h) {
        for (int group = 0; group < args.groups; ++group) {
          const float term = args.planes[((int64_t{group} * args.B + from_b) * args.H + from_h) * args.plane + place];
          const float all_of_it = __fadd_rn(sum, term), there = __fsub_rn(all_of_it, sum);  // two-sum
          rest += __fadd_rn(__fsub_rn(sum, __fsub_rn(all_of_it, there)), __fsub_rn(term, there));
          sum = all_of_it;
        }
      }
    }
    const int64_t at = b * args.strides[0] + h * args.strides[1] + place / args.Lk * args.strides[2] +
                       place % args.Lk * args.strides[3];
    args.to[at] = rest == rest ? sum + rest : sum;
  }
}

}  // namespace

template <class T>
void run_statistics(const BackwardParams& params, int head_dim, Stream stream) {
  const Problem& p = params.problem;
  const int64_t warps = int64_t{p.B} * p.N * p.H * divide_up(p.Lq, kStatisticsBlock);
  statistics_kernel<T><<<num_blocks(warps * kLanes), kThreads, 0, stream>>>(params, head_dim);
  check_launch("evoformer_attention_backward");
}

template void run_statistics<bfloat16>(const BackwardParams&, int, Stream);
template void run_statistics<float16>(const BackwardParams&, int, Stream);

void run_sum_of_groups(const BackwardParams& params, const TensorView<float, 4>& grad_pair, Stream stream) {
  const Problem& p = params.problem;
  GroupSums args{.planes = params.pair_partials,
                 .B = p.B,
                 .N = p.N,
                 .H = p.H,
                 .groups = params.pair_groups,
                 .plane = int64_t{p.Lq} * p.Lk,
                 .Lk = p.Lk,
                 .to_B = static_cast<int>(grad_pair.sizes[0]),
                 .to_H = static_cast<int>(grad_pair.sizes[1]),
                 .to = grad_pair.data,
                 .strides = {}};
  std::copy(grad_pair.strides.begin(), grad_pair.strides.end(), args.strides);
  sum_of_groups_kernel<<<num_blocks(args.to_B * args.to_H * args.plane), kThreads, 0, stream>>>(args);
  check_launch("evoformer_attention_backward");
}

}  // namespace longfold::kernels::cuda::mma
