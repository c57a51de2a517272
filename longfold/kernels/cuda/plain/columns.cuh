// A row of D results, shared out among the lanes of a warp: a weighted sum of rows, which are the queries or keys of
// another tensor.
#pragma once

#include "longfold/kernels/cuda/plain/arguments.cuh"
#include "longfold/kernels/cuda/plain/element.cuh"
#include "longfold/kernels/cuda/plain/long_sum.cuh"
#include "longfold/kernels/cuda/plain/warp.cuh"

namespace longfold::kernels::cuda::plain {

// Columns first + lane, first + lane + 32, ... of kColumns.
template <class Acc>
struct Columns {
  LongSum<Acc> sums[kColumnsPerLane];

  // Adds weight * row for those of 32 rows at `position` whose bit is set; lane t holds the weight of row t. The same
  // bits in all lanes.
  template <class T>
  __device__ void add_block(const DeviceView<const T, 5>& tensor, int64_t b, int64_t n, int64_t h, int64_t position,
                            unsigned rows, Acc weight, int64_t first, int64_t D) {
    Acc block[kColumnsPerLane] = {};
    for (; rows != 0; rows &= rows - 1) {
      const int t = __ffs(static_cast<int>(rows)) - 1;
      const Acc of_row = from_lane(weight, t);
      const T* row = tensor.at(b, n, position + t, h);
#pragma unroll
      for (int c = 0; c < kColumnsPerLane; ++c) {
        const int64_t d = column(first, c);
        if (d < D) block[c] = fma(of_row, load(row[d * tensor.strides[4]]), block[c]);
      }
    }
#pragma unroll
    for (int c = 0; c < kColumnsPerLane; ++c) sums[c].add(block[c]);
  }

  __device__ void scale(Acc factor) {
#pragma unroll
    for (int c = 0; c < kColumnsPerLane; ++c) sums[c].scale(factor);
  }

  // Stores finish(sum) of each column.
  template <class T, class Finish>
  __device__ void write(const DeviceView<T, 5>& tensor, int64_t b, int64_t n, int64_t h, int64_t position,
                        int64_t first, int64_t D, const Finish& finish) const {
#pragma unroll
    for (int c = 0; c < kColumnsPerLane; ++c) {
      const int64_t d = column(first, c);
      if (d < D) store(*tensor.at(b, n, position, h, d), finish(sums[c].value()));
    }
  }

 private:
  [[nodiscard]] __device__ static int64_t column(int64_t first, int c) {
    return first + lane_of_warp() + c * kLanesOfWarp;
  }
};

// A bit for each of 32 rows that is one of `count`.
__device__ inline unsigned rows_of_block(int64_t count) {
  return count >= kLanesOfWarp ? 0xffffffffu : (1u << static_cast<unsigned>(count)) - 1u;
}

}  // namespace longfold::kernels::cuda::plain
