// Rows of D numbers: from global into shared memory, as fp32; and results from registers to where they belong.
#pragma once

#include <type_traits>

#include "longfold/kernels/cuda/tiled/arguments.cuh"
#include "longfold/kernels/cuda/tiled/tile.cuh"

namespace longfold::kernels::cuda::tiled {

__device__ __forceinline__ float number(float value) {
  return value;
}
__device__ __forceinline__ float number(double value) {
  return static_cast<float>(value);
}
template <class T>
__device__ __forceinline__ float number(T value) {
  return ptx::unpack<T>(value.bits).x;
}

template <class T>
__device__ __forceinline__ float4 load_quad(const T* from) {
  if constexpr (sizeof(T) == 4) {
    return *reinterpret_cast<const float4*>(from);
  } else {
    const uint2 words = *reinterpret_cast<const uint2*>(from);
    const float2 first = ptx::unpack<T>(words.x), second = ptx::unpack<T>(words.y);
    return {first.x, first.y, second.x, second.y};
  }
}

// kCount rows of positions from `first` on, `left` of which are there; zeros for the others. By all threads.
template <int D, int kCount, class T>
__device__ __forceinline__ void copy_rows(uint32_t to, const Rows<const T>& rows, int64_t b, int64_t n, int64_t h,
                                          int first, int left) {
  constexpr int kLanesOfRow = D <= 8    ? 2
                              : D <= 16 ? 4
                              : D <= 32 ? 8
                              : D <= 64 ? 16
                                        : 32,
                kRowsAtOnce = kThreads / kLanesOfRow;
  constexpr int kSteps = kCount / kRowsAtOnce;
  static_assert(kSteps * kRowsAtOnce == kCount);
  const int row = static_cast<int>(threadIdx.x) / kLanesOfRow, quad = static_cast<int>(threadIdx.x) % kLanesOfRow;
  if (quad >= D / 4) return;
  const int64_t stride = rows.view.strides[4], next = kRowsAtOnce * rows.view.strides[2];
  const T* from = rows.view.at(b, n, first + row, h) + 4 * quad * stride;
  to += row * Tile<D>::kPitch + 16 * quad;
  if (rows.in_quads) {
    float4 quads[kSteps];
#pragma unroll
    for (int step = 0; step < kSteps; ++step, from += next) {
      quads[step] = {0, 0, 0, 0};
      if (row + step * kRowsAtOnce < left) quads[step] = load_quad(from);
    }
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      ptx::store_shared(to + step * kRowsAtOnce * Tile<D>::kPitch, quads[step]);
    }
  } else {
#pragma unroll 1
    for (int step = 0; step < kSteps; ++step, from += next) {
      float4 four{0, 0, 0, 0};
      if (row + step * kRowsAtOnce < left) {
        four = {number(from[0]), number(from[stride]), number(from[2 * stride]), number(from[3 * stride])};
      }
      ptx::store_shared(to + step * kRowsAtOnce * Tile<D>::kPitch, four);
    }
  }
}

template <class T>
__device__ __forceinline__ void store(T* to, float value) {
  if constexpr (std::is_same_v<T, float>)
    *to = value;
  else
    to->bits = ptx::round_to<T>(value);
}

// What this thread has of a row.
template <int D, class T>
__device__ __forceinline__ void write_row(const Rows<T>& rows, int64_t b, int64_t n, int64_t h, int position,
                                          const Place<D>& place, const float (&values)[Tile<D>::kDimsOfThread]) {
  using Tile = Tile<D>;
  T* const to = rows.view.at(b, n, position, h);
#pragma unroll
  for (int e = 0; e < Tile::kDimsOfThread; ++e) {
    if constexpr (Tile::kVector == 4 && sizeof(T) == 4) {
      if (rows.in_quads) {
        if (e % 4 == 0) {
          *reinterpret_cast<float4*>(to + place.dim(e)) = {values[e], values[e + 1], values[e + 2], values[e + 3]};
        }
        continue;
      }
    }
    store(to + place.dim(e) * rows.view.strides[4], values[e]);
  }
}

}  // namespace longfold::kernels::cuda::tiled
