// Reading biases of any type and strides: as slabs [key][64 queries], the layout of the scores, and as one value a key.
#pragma once

#include "longfold/kernels/bias.h"
#include "longfold/kernels/cpu/pack.h"

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
  }
}

LONGFOLD_INLINE void put(float* to, Vec value, bool add) {
  store(to, add ? load(to) + value : value);
}

// Neighbouring keys of a query lie side by side: sixteen rows at a time are read along the keys and transposed.
template <class E>
void slab_of_rows(const E* from, int64_t query_stride, int64_t key_stride, int64_t queries, int64_t keys, bool add,
                  float* slab) {
  constexpr int64_t kAhead = 256 / sizeof(E);  // four cache lines of each row
  for (int64_t query = 0; query < kLanes; query += kWidth) {
    const E* rows = from + query * query_stride;
    for (int64_t key = 0; key < keys; key += kWidth) {
      Vec tile[kWidth];
#pragma GCC unroll 16
      for (int64_t i = 0; i < kWidth; ++i) {
        const bool there = query + i < queries;
        if (there) __builtin_prefetch(rows + i * query_stride + (key + kAhead) * key_stride, 0, 2);
        tile[i] = there ? load_row(rows + i * query_stride, key_stride, key, keys) : Vec{};
      }
      transpose(tile);
      const int64_t count = std::min<int64_t>(kWidth, keys - key);
#pragma GCC unroll 16
      for (int64_t j = 0; j < kWidth; ++j) {
        if (j < count) put(slab + (key + j) * kLanes + query, tile[j], add);
      }
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

// mask[key] (+)= bias(key); `mask` has room for keys rounded up to kWidth.
inline void read_mask(const BiasView& bias, BiasOrigin at, int64_t keys, bool add, float* mask) {
  with_bias_data(bias, bias.offset(at.b, at.n, at.h, at.query, at.key), [&](const auto* from) {
    for (int64_t key = 0; key < keys; key += kWidth) put(mask + key, load_row(from, bias.strides[4], key, keys), add);
  });
}

}  // namespace
}  // namespace longfold::kernels
