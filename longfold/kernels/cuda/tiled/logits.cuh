// From products to logits: scale * q . k + biases, or kHiddenLogit, with the bits of plain/logits.cuh. Products add up
// from zero and biases come after them, in their order, so that large biases cost no digits.
#pragma once

#include "longfold/kernels/cuda/tiled/rows.cuh"

namespace longfold::kernels::cuda::tiled {

// What a tile of logits is of.
struct Corner {
  int64_t b, n, h;
  int query, key;               // the first ones
  int queries_left, keys_left;  // from these on
};

// Masks of the keys of a tile in shared memory: kMostMasks times a number for each key, and whether it is hidden.
template <int Count>
struct Masks {
  static constexpr int kBytes = 4 * Count * (kMostMasks + 1), kHiddenAt = 4 * Count * kMostMasks;
};

__device__ __forceinline__ float bias_number(const DeviceBias& bias, int64_t offset) {
  switch (bias.dtype) {
    case DType::kFloat32:
      return static_cast<const float*>(bias.data)[offset];
    case DType::kFloat64:
      return number(static_cast<const double*>(bias.data)[offset]);
    case DType::kBFloat16:
      return number(static_cast<const bfloat16*>(bias.data)[offset]);
    case DType::kFloat16:
      return number(static_cast<const float16*>(bias.data)[offset]);
    case DType::kBool:
      break;
  }
  return 0;
}

// By all threads. Keys that are not there get what the last one has.
template <int Count, class T>
__device__ __forceinline__ void copy_masks(uint32_t to, const Problem<T>& p, const Corner& corner) {
  const int key = static_cast<int>(threadIdx.x);
  if (key >= Count) return;
  const int64_t j = corner.key + min(key, corner.keys_left - 1);
  uint32_t hidden = 0;
  for (int index = 0; index < p.biases.count; ++index) {
    const DeviceBias& bias = p.biases.biases[index];
    const int64_t offset = bias.offset(corner.b, corner.n, corner.h, 0, j);
    if (bias.dtype == DType::kBool) {
      hidden |= static_cast<const uint8_t*>(bias.data)[offset] == 0;
    } else if (const int place = p.mask_places[index]; place >= 0) {
      ptx::store_shared(to + 4 * (Count * place + key), bias_number(bias, offset));
    }
  }
  ptx::store_shared(to + Masks<Count>::kHiddenAt + 4 * key, hidden);
}

// One that differs from query to query. Outside of the tensor anything is added.
template <class Element, int D>
__device__ __forceinline__ void add_elements(typename Tile<D>::Logits& logits, const Place<D>& place,
                                             const Element* from, int64_t row_stride, int64_t column_stride,
                                             int rows_left, int columns_left) {
  const Element* rows[kRowsOfThread];
#pragma unroll
  for (int r = 0; r < kRowsOfThread; ++r) rows[r] = from + min(place.row(r), rows_left - 1) * row_stride;
#pragma unroll
  for (int c = 0; c < Tile<D>::kColumnsOfThread; ++c) {
    const int64_t column = min(place.column(c), columns_left - 1) * column_stride;
#pragma unroll
    for (int r = 0; r < kRowsOfThread; ++r) logits[r][c] += number(rows[r][column]);
  }
}

// Which of a tile's rows and columns are keys; the others are queries.
enum class Keys : uint8_t { kAreColumns, kAreRows };

template <int D, Keys kKeys>
constexpr int kTileKeys = kKeys == Keys::kAreRows ? Tile<D>::kRows : Tile<D>::kColumns;
template <int D, Keys kKeys>
constexpr int kTileQueries = kKeys == Keys::kAreRows ? Tile<D>::kColumns : Tile<D>::kRows;

// Of this thread's logits, by masks that copy_masks has stored.
template <Keys kKeys, int D>
__device__ __forceinline__ void add_mask(typename Tile<D>::Logits& logits, const Place<D>& place, uint32_t mask) {
  if constexpr (kKeys == Keys::kAreRows) {
#pragma unroll
    for (int r = 0; r < kRowsOfThread; ++r) {
      const auto value = ptx::load_shared<float>(mask + 4 * place.row(r));
#pragma unroll
      for (int c = 0; c < Tile<D>::kColumnsOfThread; ++c) logits[r][c] += value;
    }
  } else {
#pragma unroll
    for (int c = 0; c < Tile<D>::kColumnsOfThread; ++c) {
      const auto value = ptx::load_shared<float>(mask + 4 * place.column(c));
#pragma unroll
      for (int r = 0; r < kRowsOfThread; ++r) logits[r][c] += value;
    }
  }
}

// The numbers of keys that are hidden become `value`.
template <Keys kKeys, int D>
__device__ __forceinline__ void set_hidden(typename Tile<D>::Logits& numbers, const Place<D>& place, uint32_t masks,
                                           float value) {
  masks += Masks<kTileKeys<D, kKeys>>::kHiddenAt;
#pragma unroll
  for (int r = 0; r < kRowsOfThread; ++r) {
#pragma unroll
    for (int c = 0; c < Tile<D>::kColumnsOfThread; ++c) {
      const int key = kKeys == Keys::kAreRows ? place.row(r) : place.column(c);
      if (ptx::load_shared<uint32_t>(masks + 4 * key) != 0) numbers[r][c] = value;
    }
  }
}

// Makes logits of products.
template <Keys kKeys, int D, class T>
__device__ __forceinline__ void finish_logits(typename Tile<D>::Logits& logits, const Place<D>& place,
                                              const Problem<T>& p, const Corner& corner, uint32_t masks) {
#pragma unroll
  for (int r = 0; r < kRowsOfThread; ++r) {
#pragma unroll
    for (int c = 0; c < Tile<D>::kColumnsOfThread; ++c) logits[r][c] *= p.scale;
  }
  for (int index = 0; index < p.biases.count; ++index) {
    const DeviceBias& bias = p.biases.biases[index];
    if (const int mask = p.mask_places[index]; mask >= 0) {
      add_mask<kKeys>(logits, place, masks + 4 * kTileKeys<D, kKeys> * mask);
      continue;
    }
    const int64_t offset = bias.offset(corner.b, corner.n, corner.h, corner.query, corner.key);
    const auto add = [&](const auto* data) {
      if constexpr (kKeys == Keys::kAreRows) {
        add_elements(logits, place, data + offset, bias.strides[4], bias.strides[3], corner.keys_left,
                     corner.queries_left);
      } else {
        add_elements(logits, place, data + offset, bias.strides[3], bias.strides[4], corner.queries_left,
                     corner.keys_left);
      }
    };
    switch (bias.dtype) {
      case DType::kFloat32:
        add(static_cast<const float*>(bias.data));
        break;
      case DType::kFloat64:
        add(static_cast<const double*>(bias.data));
        break;
      case DType::kBFloat16:
        add(static_cast<const bfloat16*>(bias.data));
        break;
      case DType::kFloat16:
        add(static_cast<const float16*>(bias.data));
        break;
      case DType::kBool:
        break;
    }
  }
  if (p.has_hidden) set_hidden<kKeys>(logits, place, masks, kHiddenLogit);
}

}  // namespace longfold::kernels::cuda::tiled
