#include "longfold/kernels/cuda/evoformer_attention.h"
#include "longfold/kernels/cuda/plain/element.cuh"
#include "longfold/kernels/cuda/runtime.h"
#include "longfold/kernels/cuda/training.h"
#include "longfold/kernels/cuda/training/pack.cuh"

namespace longfold::kernels::cuda {
namespace {

constexpr int kThreads = 512, kWarps = kThreads / 32;

__device__ inline double sum_of_warp(double value) {
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_down_sync(0xffffffffu, value, lanes);
  return value;
}

// One partial sum for each block; which elements go into it depends on the count alone.
template <class T>
__global__ void __launch_bounds__(kThreads) sum_of_squares_kernel(const T* from, int64_t count, double* partial_sums) {
  constexpr int kElements = 16 / sizeof(T);
  const int64_t first = int64_t{blockIdx.x} * kThreads + threadIdx.x, step = int64_t{gridDim.x} * kThreads;
  const int64_t num_packs = count / kElements;
  double sum = 0;
  for (int64_t i = first; i < num_packs; i += step) {
    const auto pack = reinterpret_cast<const Pack<T, kElements>*>(from)[i];
#pragma unroll
    for (int j = 0; j < kElements; ++j) {
      const double value = plain::load(pack.values[j]);
      sum += value * value;
    }
  }
  for (int64_t i = num_packs * kElements + first; i < count; i += step) {
    const double value = plain::load(from[i]);
    sum += value * value;
  }
  __shared__ double of_warps[kWarps];
  sum = sum_of_warp(sum);
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x >= 32) return;
  sum = sum_of_warp(threadIdx.x < kWarps ? of_warps[threadIdx.x] : 0);
  if (threadIdx.x == 0) partial_sums[blockIdx.x] = sum;
}

}  // namespace

template <class T>
void sum_of_squares(const T* from, int64_t count, double* partial_sums, Stream stream) {
  sum_of_squares_kernel<T><<<kPartialSums, kThreads, 0, stream>>>(from, count, partial_sums);
  check_launch("sum_of_squares");
}

template void sum_of_squares<float>(const float*, int64_t, double*, Stream);
template void sum_of_squares<bfloat16>(const bfloat16*, int64_t, double*, Stream);
template void sum_of_squares<float16>(const float16*, int64_t, double*, Stream);

}  // namespace longfold::kernels::cuda
