// A warp of 32 lanes that works on one row, and how rows are dealt to warps. All of a warp's lanes go through its loops
// together.
#pragma once

#include <cstdint>

namespace longfold::kernels::cuda::plain {

inline constexpr int kLanesOfWarp = 32;
inline constexpr int kThreads = 128;                // of a block: four warps, which share the keys that they read
inline constexpr int kBlocksPerMultiprocessor = 4;  // at least: leaves enough registers for all of a row's sums
inline constexpr int kColumnsPerLane = 4;           // of a row of D results: head dims up to 128 go in one pass
inline constexpr int kColumns = kColumnsPerLane * kLanesOfWarp;

__device__ inline int lane_of_warp() {
  return static_cast<int>(threadIdx.x) % kLanesOfWarp;
}

// The rows of this warp, or elements of this thread: first, first + step, ... There may be more rows than a grid has
// blocks, and a grid has one dimension, since the others end at 65,535.
__device__ inline int64_t first_row() {
  return (int64_t{blockIdx.x} * kThreads + threadIdx.x) / kLanesOfWarp;
}
__device__ inline int64_t row_step() {
  return int64_t{gridDim.x} * (kThreads / kLanesOfWarp);
}
__device__ inline int64_t first_element() {
  return int64_t{blockIdx.x} * kThreads + threadIdx.x;
}
__device__ inline int64_t element_step() {
  return int64_t{gridDim.x} * kThreads;
}

// Where a row or element of [B, N, H, L] lies.
struct Place {
  int64_t b, n, h, position;
};
__device__ inline Place place_of(int64_t row, int64_t N, int64_t H, int64_t L) {
  return {row / (L * H * N), row / (L * H) % N, row / L % H, row % L};
}

template <class Acc>
__device__ Acc from_lane(Acc value, int lane) {
  return __shfl_sync(0xffffffffu, value, lane);
}

// The same bits in every lane, since each step adds the same two numbers on both sides.
template <class Acc>
__device__ Acc sum_of_warp(Acc value) {
  for (int far = kLanesOfWarp / 2; far > 0; far /= 2) value += __shfl_xor_sync(0xffffffffu, value, far);
  return value;
}

// NaN if one of them is.
template <class Acc>
__device__ Acc larger(Acc a, Acc b) {
  return a != a || a > b ? a : b;
}
template <class Acc>
__device__ Acc largest_of_warp(Acc value) {
  for (int far = kLanesOfWarp / 2; far > 0; far /= 2) {
    value = larger(value, __shfl_xor_sync(0xffffffffu, value, far));
  }
  return value;
}

}  // namespace longfold::kernels::cuda::plain
