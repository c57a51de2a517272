// Reading biases of any type and strides: as slabs [key][64 queries], the layout of the scores, and as one value a key.
#pragma once

#include "longfold/kernels/cpu/pack.h"
#include "longfold/kernels/cpu/prefetch.h"
#include "longfold/kernels/evoformer/bias.h"

namespace longfold::kernels {
namespace {

// Where in a bias a block of logits starts.
struct BiasOrigin {
  int64_t b, n, h, query, key;
};

// Calls body with a pointer of the bias's element type.
template <class Body>
void with_bias_data(const BiasView& bias, int64_t offset, Body&& body) {
  switch (bias.dtype) {
    case DType::kFloat32:
      return body(static_cast<const float*>(bias.data) + offset);
    case DType::kFloat64:
      return body(static_cast<const double*>(bias.data) + offset);
    case DType::kBFloat16:
      return body(static_cast<const bfloat16*>(bias.data) + offset);
    case DType::kFloat16:
      return body(static_cast<const float16*>(bias.data) + offset);
    case DType::kBool:
      return;  // adds nothing
  }
}

LONGFOLD_INLINE void put(float* to, Vec value, bool add) {
  store(to, add ? load(to) + value : value);
}

// slab[kWidth keys][kWidth queries] (+)= rows[kWidth queries][kWidth keys], transposed.
template <class E>
LONGFOLD_INLINE void slab_tile(const E* rows, int64_t query_stride, bool add, float* slab) {
  Vec tile[kWidth];
#pragma GCC unroll 16
  for (int i = 0; i < kWidth; ++i) {
    __builtin_prefetch(rows + (kWidth + i) * query_stride, 0, 2);  // the next rows
    tile[i] = load_as_float(rows + i * query_stride);
  }
  transpose(tile);
  if (add) {
#pragma GCC unroll 16
    for (int j = 0; j < kWidth; ++j) tile[j] += load(slab + j * kLanes);
  }
#pragma GCC unroll 16
  for (int j = 0; j < kWidth; ++j) store(slab + j * kLanes, tile[j]);
}

// The same at the edges, and where neighbouring keys do not lie side by side.
template <class E>
void slab_edge(const E* rows, int64_t query_stride, int64_t key_stride, int64_t queries, int64_t keys, bool add,
               float* slab) {
  Vec tile[kWidth];
  for (int64_t i = 0; i < kWidth; ++i) {
    tile[i] = i < queries ? load_row(rows + i * query_stride, key_stride, 0, keys) : Vec{};
  }
  transpose(tile);
  for (int64_t j = 0; j < kWidth && j < keys; ++j) put(slab + j * kLanes, tile[j], add);
}

template <class E>
void slab_of_rows(const E* from, int64_t query_stride, int64_t key_stride, int64_t queries, int64_t keys, bool add,
                  float* slab) {
  for (int64_t query = 0; query < kLanes; query += kWidth) {
    for (int64_t key = 0; key < keys; key += kWidth) {
      const E* rows = from + query * query_stride + key * key_stride;
      float* to = slab + key * kLanes + query;
      if (key_stride == 1 && query + kWidth <= queries && key + kWidth <= keys)
        slab_tile(rows, query_stride, add, to);
      else
        slab_edge(rows, query_stride, key_stride, queries - query, keys - key, add, to);
    }
  }
}

// Neighbouring queries lie side by side, as in a transposed bias: the slab's own order.
template <class E>
void slab_of_columns(const E* from, int64_t key_stride, int64_t queries, int64_t keys, bool add, float* slab) {
  for (int64_t key = 0; key < keys; ++key) {
    for (int64_t query = 0; query < kLanes; query += kWidth) {
      put(slab + key * kLanes + query, load_row(from + key * key_stride, 1, query, queries), add);
    }
  }
}

// slab[key][query] (+)= bias(query, key): keys x 64 lanes, lanes past `queries` are zero.
inline void read_slab(const BiasView& bias, BiasOrigin at, int64_t queries, int64_t keys, bool add, float* slab) {
  with_bias_data(bias, bias.offset(at.b, at.n, at.h, at.query, at.key), [&](const auto* from) {
    if (bias.strides[3] == 1 && bias.strides[4] != 1)
      slab_of_columns(from, bias.strides[4], queries, keys, add, slab);
    else
      slab_of_rows(from, bias.strides[3], bias.strides[4], queries, keys, add, slab);
  });
}

// Asks for what read_slab would read, if neighbours lie side by side.
inline void prefetch_slab(const BiasView& bias, BiasOrigin at, int64_t queries, int64_t keys, Prefetcher& prefetcher) {
  with_bias_data(bias, bias.offset(at.b, at.n, at.h, at.query, at.key), [&](const auto* from) {
    if (bias.strides[4] == 1)
      prefetcher.add(Matrix{from, bias.strides[3], 1}, 0, queries, keys);
    else if (bias.strides[3] == 1)
      prefetcher.add(Matrix{from, bias.strides[4], 1}, 0, keys, queries);
  });
}

// shown[key] = 0 where a bias of kBool hides the key; elsewhere it stays.
inline void read_hidden(const BiasView& bias, BiasOrigin at, int64_t keys, float* shown) {
  const auto* from = static_cast<const uint8_t*>(bias.data) + bias.offset(at.b, at.n, at.h, at.query, at.key);
  for (int64_t key = 0; key < keys; ++key) shown[key] = from[key * bias.strides[4]] != 0 ? shown[key] : 0.0f;
}

// mask[key] (+)= bias(key); `mask` has room for keys rounded up to kWidth.
inline void read_mask(const BiasView& bias, BiasOrigin at, int64_t keys, bool add, float* mask) {
  with_bias_data(bias, bias.offset(at.b, at.n, at.h, at.query, at.key), [&](const auto* from) {
    for (int64_t key = 0; key < keys; key += kWidth) put(mask + key, load_row(from, bias.strides[4], key, keys), add);
  });
}

}  // namespace
}  // namespace longfold::kernels
