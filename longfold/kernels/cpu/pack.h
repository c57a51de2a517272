// Between tensors as the caller holds them (any type, any strides) and the fp32 panels that the products read.
#pragma once

#include "longfold/kernels/bias.h"
#include "longfold/kernels/cpu/simd.h"
#include "longfold/kernels/tile_size.h"

namespace longfold::kernels {
namespace {

LONGFOLD_INLINE Vec load_as_float(const float* from) {
  return load(from);
}
LONGFOLD_INLINE Vec load_as_float(const bfloat16* from) {
  return load_bfloat16(from);
}
LONGFOLD_INLINE Vec load_as_float(const float16* from) {
  return load_float16(from);
}
LONGFOLD_INLINE float element(float value) {
  return value;
}
LONGFOLD_INLINE float element(bfloat16 value) {
  return to_float(value);
}
LONGFOLD_INLINE float element(float16 value) {
  return to_float(value);
}
LONGFOLD_INLINE void store_as(float* to, Vec value) {
  store(to, value);
}
LONGFOLD_INLINE void store_as(bfloat16* to, Vec value) {
  store_bfloat16(to, value);
}
LONGFOLD_INLINE void store_as(float16* to, Vec value) {
  store_float16(to, value);
}
LONGFOLD_INLINE void set_element(float& to, float value) {
  to = value;
}
LONGFOLD_INLINE void set_element(bfloat16& to, float value) {
  to = to_bfloat16(value);
}
LONGFOLD_INLINE void set_element(float16& to, float value) {
  to = to_float16(value);
}

// A matrix in the caller's memory: element (row, d) at data[row * row_stride + d * inner_stride].
template <class T>
struct Matrix {
  T* data;
  int64_t row_stride;
  int64_t inner_stride;
};

// Asks for rows [begin, end) ahead of time. Rows of one head lie H * D elements apart, a pattern that hardware does not
// foresee; without this a call on tensors larger than the caches keeps waiting for memory.
template <bool ForWriting = false, class T>
void prefetch_rows(Matrix<T> from, int64_t begin, int64_t end, int64_t D) {
  const int64_t bytes = from.inner_stride == 1 ? D * static_cast<int64_t>(sizeof(T)) : 1;
  for (int64_t row = begin; row < end; ++row) {
    const char* at = reinterpret_cast<const char*>(from.data + row * from.row_stride);
    for (int64_t byte = 0; byte < bytes; byte += 64) __builtin_prefetch(at + byte, ForWriting ? 1 : 0, 2);
    __builtin_prefetch(at + bytes - 1, ForWriting ? 1 : 0, 2);
  }
}

// to[row][d] = from(row, d) * factor for rows < count and d < D; zero up to [padded_rows][padded_dim].
template <class T>
void pack_rows(Matrix<const T> from, int64_t count, int64_t D, float factor, float* to, int64_t padded_rows,
               int64_t padded_dim) {
  for (int64_t row = 0; row < count; ++row, to += padded_dim) {
    const T* source = from.data + row * from.row_stride;
    int64_t d = 0;
    if (from.inner_stride == 1) {
      for (; d + kWidth <= D; d += kWidth) store(to + d, load_as_float(source + d) * factor);
    }
    for (; d < D; ++d) to[d] = element(source[d * from.inner_stride]) * factor;
    for (; d < padded_dim; ++d) to[d] = 0;
  }
  for (int64_t i = 0; i < (padded_rows - count) * padded_dim; ++i) to[i] = 0;
}

// to(row, d) = from[row][d] for rows < count and d < D.
template <class T>
void unpack_rows(const float* from, int64_t padded_dim, Matrix<T> to, int64_t count, int64_t D) {
  for (int64_t row = 0; row < count; ++row, from += padded_dim) {
    T* target = to.data + row * to.row_stride;
    int64_t d = 0;
    if (to.inner_stride == 1) {
      for (; d + kWidth <= D; d += kWidth) store_as(target + d, load(from + d));
    }
    for (; d < D; ++d) set_element(target[d * to.inner_stride], from[d]);
  }
}

// kWidth vectors become their columns: log2(kWidth) rounds, each of which zips the first half with the second.
LONGFOLD_INLINE void transpose(Vec (&rows)[kWidth]) {
#pragma GCC unroll 4
  for (int round = 1; round < kWidth; round *= 2) {
    Vec zipped[kWidth];
#pragma GCC unroll 16
    for (int i = 0; i < kWidth / 2; ++i) {
      zipped[2 * i] = zip_low(rows[i], rows[i + kWidth / 2]);
      zipped[2 * i + 1] = zip_high(rows[i], rows[i + kWidth / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; ++i) rows[i] = zipped[i];
  }
}

// to[column][row] = from[row][column]; both counts are multiples of kWidth.
inline void transpose_panel(const float* from, int64_t from_row, int64_t rows, int64_t columns, float* to,
                            int64_t to_row) {
  for (int64_t row = 0; row < rows; row += kWidth) {
    for (int64_t column = 0; column < columns; column += kWidth) {
      Vec tile[kWidth];
#pragma GCC unroll 16
      for (int i = 0; i < kWidth; ++i) tile[i] = load(from + (row + i) * from_row + column);
      transpose(tile);
#pragma GCC unroll 16
      for (int i = 0; i < kWidth; ++i) store(to + (column + i) * to_row + row, tile[i]);
    }
  }
}

// One vector of a bias along the keys: element t is bias[offset + t * stride] for t < count, else 0.
LONGFOLD_INLINE Vec load_bias(const BiasView& bias, int64_t offset, int64_t stride, int64_t count) {
  if (stride == 1 && count >= kWidth) {
    if (bias.dtype == DType::kFloat32) return load(static_cast<const float*>(bias.data) + offset);
    if (bias.dtype == DType::kFloat16) return load_float16(static_cast<const float16*>(bias.data) + offset);
    if (bias.dtype == DType::kBFloat16) return load_bfloat16(static_cast<const bfloat16*>(bias.data) + offset);
  }
  alignas(64) float values[kWidth] = {};
  for (int64_t t = 0; t < count && t < kWidth; ++t) {
    values[t] = static_cast<float>(bias_element(bias, offset + t * stride));
  }
  return load(values);
}

// Where in a bias a block of logits starts.
struct BiasOrigin {
  int64_t b, n, h, query, key;
};

// slab[key][query] (+)= bias(query, key): keys x 64 lanes, lanes past `queries` are zero.
inline void transpose_bias(const BiasView& bias, BiasOrigin at, int64_t queries, int64_t keys, bool add, float* slab) {
  const int64_t origin = bias.offset(at.b, at.n, at.h, at.query, at.key);
  for (int64_t key = 0; key < keys; key += kWidth) {
    for (int64_t query = 0; query < kLanes; query += kWidth) {
      Vec tile[kWidth];
      for (int64_t i = 0; i < kWidth; ++i) {
        tile[i] = query + i < queries ? load_bias(bias, origin + (query + i) * bias.strides[3] + key * bias.strides[4],
                                                  bias.strides[4], keys - key)
                                      : Vec{};
      }
      transpose(tile);
      for (int64_t j = 0; j < kWidth && key + j < keys; ++j) {
        float* to = slab + (key + j) * kLanes + query;
        store(to, add ? load(to) + tile[j] : tile[j]);
      }
    }
  }
}

// mask[key] (+)= bias(key); `mask` has room for keys rounded up to kWidth.
inline void load_mask(const BiasView& bias, BiasOrigin at, int64_t keys, bool add, float* mask) {
  const int64_t origin = bias.offset(at.b, at.n, at.h, at.query, at.key);
  for (int64_t key = 0; key < keys; key += kWidth) {
    const Vec value = load_bias(bias, origin + key * bias.strides[4], bias.strides[4], keys - key);
    store(mask + key, add ? load(mask + key) + value : value);
  }
}

}  // namespace
}  // namespace longfold::kernels
