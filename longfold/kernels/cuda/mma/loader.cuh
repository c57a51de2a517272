// What the producer warp does: tiles of rows and of the pair bias from global to shared memory, 16 bytes at a time
// where they lie so, else element by element. What is beyond the tensors' ends becomes zero, and is not read.
#pragma once

#include "longfold/kernels/cuda/mma/params.h"
#include "longfold/kernels/cuda/mma/ring.cuh"
#include "longfold/kernels/cuda/mma/tile_size.h"

namespace longfold::kernels::cuda::mma {

// Where the rows of one b, n and head start. An n beyond the last stands for a row that is not there: see `end`.
__device__ __forceinline__ const char* rows_of(const Rows& rows, int b, int n, int h) {
  return static_cast<const char*>(rows.data) + 2 * (b * rows.strides[0] + n * rows.strides[1] + h * rows.strides[3]);
}

// Rows first ... first + Count - 1 of those that start at `from`; from `end` on there are none.
template <int HeadDim, int Count>
__device__ void load_rows(uint32_t to, const Rows& rows, const char* from, int first, int end) {
  constexpr int kUnits = HeadDim / 8, kPitch = row_pitch(HeadDim);
  const int lane = lane_of_warp();
  if (rows.in_units) {
    constexpr int kAtOnce = kLanes / kUnits;
    const int row = lane / kUnits, unit = lane % kUnits;
    if (row >= kAtOnce) return;
    const int64_t stride = 2 * rows.strides[2];
    from += (first + row) * stride + 16 * unit;
    to += row * kPitch + 16 * unit;
#pragma unroll 8
    for (int i = 0; i < Count; i += kAtOnce) {
      if (Count % kAtOnce == 0 || i + row < Count) {
        ptx::copy_async(to + i * kPitch, from, first + row + i < end);
      }
      from += kAtOnce * stride;
    }
    return;
  }
#pragma unroll 4
  for (int element = lane; element < Count * HeadDim; element += kLanes) {
    const int row = element / HeadDim, d = element % HeadDim;
    uint16_t value = 0;
    if (first + row < end) {
      value = *reinterpret_cast<const uint16_t*>(from + 2 * ((first + row) * rows.strides[2] + d * rows.strides[4]));
    }
    ptx::store_shared(to + row * kPitch + 2 * d, value);
  }
}

__device__ __forceinline__ float read_bias(const Bias& bias, int64_t offset) {
  switch (bias.dtype) {
    case DType::kFloat32:
      return static_cast<const float*>(bias.data)[offset];
    case DType::kFloat64:
      return static_cast<float>(static_cast<const double*>(bias.data)[offset]);
    case DType::kBFloat16:
      return ptx::unpack<bfloat16>(static_cast<const uint16_t*>(bias.data)[offset]).x;
    default:
      return ptx::unpack<float16>(static_cast<const uint16_t*>(bias.data)[offset]).x;
  }
}

__device__ __forceinline__ int64_t bias_offset(const Bias& bias, int b, int n, int h) {
  return b * bias.strides[0] + n * bias.strides[1] + h * bias.strides[2];
}

// Queries first_query ... + Queries - 1 by keys first_key ... + Keys - 1.
template <BiasForm Form, int Queries, int Keys>
__device__ void load_pair_bias(uint32_t to, const Bias& bias, int64_t offset, int first_query, int num_queries,
                               int first_key, int num_keys) {
  if constexpr (Form != BiasForm::kNone) {
    constexpr int kSize = bias_size(Form), kPitch = bias_pitch(Form, Keys);
    const int lane = lane_of_warp();
    if (bias.in_units) {
      constexpr int kUnits = Keys * kSize / 16, kAtOnce = kLanes / kUnits, kElements = 16 / kSize;
      static_assert(kUnits <= kLanes);
      const int query = lane / kUnits, unit = lane % kUnits;
      const bool valid = first_key + kElements * unit < num_keys;
      const int64_t stride = kSize * bias.strides[3];
      const char* from = static_cast<const char*>(bias.data) + kSize * (offset + first_key) +
                         (first_query + query) * stride + 16 * unit;
      to += query * kPitch + 16 * unit;
#pragma unroll 8
      for (int i = 0; i < Queries; i += kAtOnce) {
        ptx::copy_async(to + i * kPitch, from, valid && first_query + query + i < num_queries);
        from += kAtOnce * stride;
      }
      return;
    }
#pragma unroll 8
    for (int element = lane; element < Queries * Keys; element += kLanes) {
      const int query = element / Keys, key = element % Keys;
      const bool valid = first_query + query < num_queries && first_key + key < num_keys;
      const int64_t at = offset + (first_query + query) * bias.strides[3] + (first_key + key) * bias.strides[4];
      if constexpr (Form == BiasForm::k16) {
        uint16_t value = 0;
        if (valid) value = static_cast<const uint16_t*>(bias.data)[at];
        ptx::store_shared(to + query * kPitch + 2 * key, value);
      } else {
        ptx::store_shared(to + query * kPitch + 4 * key, valid ? read_bias(bias, at) : 0.0f);
      }
    }
  }
}

}  // namespace longfold::kernels::cuda::mma
