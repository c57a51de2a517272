// What becomes of the gradients of the logits, ds[key][64 queries] = weights * (grad_out . v - delta): words for the
// products that follow.
#pragma once

#include "longfold/kernels/cpu/pack.h"

namespace longfold::kernels {
namespace {

// One block's operands: words along the queries [key][64 / Pack], and along the keys [key / Pack][64].
struct BlockGradients {
  float* weights;
  float* grads;
  float* grad_pairs;
};

// From weights and grad_out . v of a block, once delta is known. Single words: ds takes the place of `grads`. Pairs: ds
// is rounded into words, and stored in fp32 as well if `keep` says so. sink(key, lane, ds) sees each.
template <int Pack, class Sink>
void finish_grads(const float* weights, float* grads, int64_t keys, const float* delta, const Sink& sink, bool keep,
                  BlockGradients words) {
  if constexpr (Pack == 1) {
    for (int64_t i = 0; i < keys * kLanes; i += kWidth) {
      const Vec ds = load(weights + i) * (load(grads + i) - load(delta + i % kLanes));
      store(grads + i, ds);
      sink(i / kLanes, i % kLanes, ds);
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
          sink(key + j, c * kWidth, ds[j][c]);
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
