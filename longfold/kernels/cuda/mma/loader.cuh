// What producers do: tiles of rows and of the pair bias from global to shared memory. One lane of each warp
// copies some of them whole by tensor maps, where all tensors have one; else all threads do, 16 bytes at a time, or
// rows element by element where they do not lie so. What is beyond the tensors' ends becomes zero, and is not read.
#pragma once

#include "longfold/kernels/cuda/mma/params.h"
#include "longfold/kernels/cuda/mma/ring.cuh"
#include "longfold/kernels/cuda/mma/tile.cuh"

namespace longfold::kernels::cuda::mma {

constexpr int kProducerThreads = kProducers * kLanes;

// Of kProducerThreads: producers are the last warps of a block.
struct Producer {
  int warp, thread;

  explicit __device__ Producer(int num_consumers)
      : warp(ptx::of_warp(static_cast<int>(threadIdx.x) / kLanes) - num_consumers),
        thread(static_cast<int>(threadIdx.x) - kLanes * num_consumers) {}
};

// Where the rows of one b, n and head start.
__device__ __forceinline__ const char* rows_of(const Rows& rows, int b, int n, int h) {
  return static_cast<const char*>(rows.data) + 2 * (b * rows.strides[0] + n * rows.strides[1] + h * rows.strides[3]);
}

// Of a tensor that does not vary along a dimension, a map knows but one place there.
__device__ __forceinline__ int coordinate(int64_t stride, int place) {
  return stride == 0 ? 0 : place;
}

// Whole tiles by a tensor map: by one thread, which has told the barrier to expect their bytes. What a tensor does not
// have becomes zero.
template <class Tile>
__device__ __forceinline__ void copy_boxes(uint32_t to, const TensorMap& map, uint32_t barrier, int first_column,
                                           int element_bytes, int c1, int c2, int c3, int c4) {
#pragma unroll
  for (int chunk = 0; chunk < Tile::kRowBytes / Tile::kChunk; ++chunk) {
    ptx::copy_box(to + chunk * Tile::kRows * Tile::kChunk, &map, barrier,
                  {first_column + chunk * Tile::kChunk / element_bytes, c1, c2, c3, c4});
  }
}

// Rows first, first + 1, ... of one b, n and head.
template <class Tile>
__device__ __forceinline__ void copy_rows(uint32_t to, uint32_t barrier, const Rows& rows, const TensorMap& map, int b,
                                          int n, int h, int first) {
  const int64_t* s = rows.strides;
  copy_boxes<Tile>(to, map, barrier, 0, 2, coordinate(s[2], first), coordinate(s[3], h), coordinate(s[1], n),
                   coordinate(s[0], b));
}

// The same without a map, by all producers. From `end` on, and for an n that is not there, there are no rows.
template <class Tile>
__device__ void load_rows(const Producer& producer, uint32_t to, const Rows& rows, const Problem& p, int b, int n,
                          int h, int first, int end) {
  const char* from = rows_of(rows, b, min(n, p.N - 1), h);
  if (n >= p.N) end = 0;
  constexpr int kUnits = Tile::kUnits, kCount = Tile::kRows;
  if (rows.in_units) {
    constexpr int kAtOnce = kProducerThreads / kUnits;
    const int row = producer.thread / kUnits, unit = producer.thread % kUnits;
    if (row >= kAtOnce) return;
    const int64_t stride = 2 * rows.strides[2];
    from += (first + row) * stride + 16 * unit;
#pragma unroll 2
    for (int i = row; i < kCount; i += kAtOnce) {
      ptx::copy_async(Tile::unit(to, i, unit), from, first + i < end);
      from += kAtOnce * stride;
    }
    return;
  }
  constexpr int kElements = 8 * kUnits;
#pragma unroll 2
  for (int element = producer.thread; element < kCount * kElements; element += kProducerThreads) {
    const int row = element / kElements, d = element % kElements;
    uint16_t value = 0;
    if (first + row < end) {
      value = *reinterpret_cast<const uint16_t*>(from + 2 * ((first + row) * rows.strides[2] + d * rows.strides[4]));
    }
    ptx::store_shared(Tile::unit(to, row, d / 8) + d % 8 * 2, value);
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

__device__ __forceinline__ int64_t bias_offset(const Bias& bias, int64_t b, int64_t n, int h) {
  return b * bias.strides[0] + n * bias.strides[1] + h * bias.strides[2];
}

// The tile of a pair bias: its rows are queries.
template <BiasForm Form, int Queries, int Keys>
using BiasTile = Tile<Queries, Keys * bias_size(Form)>;

// The queries and keys of a tile from first_query and first_key on.
template <BiasForm Form, int Queries, int Keys>
__device__ __forceinline__ void copy_pair_bias(uint32_t to, uint32_t barrier, const Problem& p, int b, int n, int h,
                                               int first_query, int first_key) {
  if constexpr (Form != BiasForm::kNone) {
    const int64_t* s = p.pair.strides;
    copy_boxes<BiasTile<Form, Queries, Keys>>(to, p.maps.pair, barrier, first_key, bias_size(Form),
                                              coordinate(s[3], first_query), coordinate(s[2], h), coordinate(s[1], n),
                                              coordinate(s[0], b));
  }
}
template <BiasForm Form, int Queries, int Keys>
__device__ void load_pair_bias(const Producer& producer, uint32_t to, const Problem& p, int b, int n, int h,
                               int first_query, int first_key) {
  if constexpr (Form != BiasForm::kNone) {
    using Tile = BiasTile<Form, Queries, Keys>;
    constexpr int kSize = bias_size(Form);
    const Bias& bias = p.pair;
    constexpr int kUnits = Tile::kUnits, kAtOnce = kProducerThreads / kUnits;
    const int query = producer.thread / kUnits, unit = producer.thread % kUnits;
    const bool valid = first_key + 16 / kSize * unit < p.Lk;
    const int64_t stride = kSize * bias.strides[3];
    const char* from = static_cast<const char*>(bias.data) + kSize * (bias_offset(bias, b, n, h) + first_key) +
                       (first_query + query) * stride + 16 * unit;
#pragma unroll 2
    for (int i = query; i < Queries; i += kAtOnce) {
      ptx::copy_async(Tile::unit(to, i, unit), from, valid && first_query + i < p.Lq);
      from += kAtOnce * stride;
    }
  }
}

}  // namespace longfold::kernels::cuda::mma
