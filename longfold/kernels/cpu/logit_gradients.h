// What becomes of the gradients of the logits, ds[key][64 queries] = weights * (grad_out . v - delta): words for the
// products that follow, and a slab whose sum over rows n is part of the gradient of a pair bias.
#pragma once

#include "longfold/kernels/cpu/long_sum.h"
#include "longfold/kernels/cpu/pack.h"

namespace longfold::kernels {
namespace {

// One block's operands: words along the queries [key][64 / Pack], and along the keys [key / Pack][64].
struct BlockGradients {
  float* weights;
  float* grads;
  float* grad_pairs;
};

// A panel's part of the pair-bias gradient, from the first key of a block on; data may be null. The last panel keeps
// only vectors of lanes that hold queries. The first row n of an item overwrites what is there.
struct PairSlab {
  float* data = nullptr;
  float* rest = nullptr;  // of a long sum, with the other sign; may be null
  int64_t lanes = 0;
  bool overwrite = false;

  LONGFOLD_INLINE void add(int64_t key, int64_t lane, Vec ds) const {
    if (data == nullptr || lane >= lanes) return;
    float* to = data + key * lanes + lane;
    if (overwrite) {
      store(to, ds);
      if (rest != nullptr) store(rest + key * lanes + lane, Vec{});
    } else if (rest != nullptr) {
      add_long_negative(ds, to, rest + key * lanes + lane);
    } else {
      store(to, load(to) + ds);
    }
  }

  void clear(int64_t keys) const {
    for (int64_t i = 0; i < keys * lanes; i += kWidth) {
      store(data + i, Vec{});
      if (rest != nullptr) store(rest + i, Vec{});
    }
  }

  [[nodiscard]] PairSlab from_key(int64_t key) const {
    PairSlab later = *this;
    if (data != nullptr) later.data += key * lanes;
    if (rest != nullptr) later.rest += key * lanes;
    return later;
  }
};

// From weights and grad_out . v of a block, once delta is known. Single words: ds takes the place of `grads`. Pairs: ds
// is rounded into words, and stored in fp32 as well if `keep` says so.
template <int Pack>
void finish_grads(const float* weights, float* grads, int64_t keys, const float* delta, PairSlab slab, bool keep,
                  BlockGradients words) {
  if constexpr (Pack == 1) {
    for (int64_t i = 0; i < keys * kLanes; i += kWidth) {
      const Vec ds = load(weights + i) * (load(grads + i) - load(delta + i % kLanes));
      store(grads + i, ds);
      slab.add(i / kLanes, i % kLanes, ds);
    }
  } else {
    constexpr int C = kLanes / kWidth;
    constexpr int64_t kWords = kLanes / Pack;
    for (int64_t key = 0; key < keys; key += 2) {
      Vec ds[2][C] = {};
      for (int j = 0; j < 2 && key + j < keys; ++j) {
        Vec w[C];
        const int64_t row = (key + j) * kLanes;
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) {
          w[c] = load(weights + row + c * kWidth);
          ds[j][c] = w[c] * (load(grads + row + c * kWidth) - load(delta + c * kWidth));
          if (keep) store(grads + row + c * kWidth, ds[j][c]);
          slab.add(key + j, c * kWidth, ds[j][c]);
        }
#pragma GCC unroll 2
        for (int c = 0; c < C; c += 2) {
          store_bfloat16(words.weights + (key + j) * kWords + c * kWidth / 2, w[c], w[c + 1]);
          store_bfloat16(words.grads + (key + j) * kWords + c * kWidth / 2, ds[j][c], ds[j][c + 1]);
        }
      }
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) {
        store(words.grad_pairs + key / 2 * kLanes + c * kWidth, join_bfloat16(ds[0][c], ds[1][c]));
      }
    }
  }
}

}  // namespace
}  // namespace longfold::kernels
