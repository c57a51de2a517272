// What becomes of the gradients of the logits, ds[key][64 queries] = weights * (grad_out . v - delta): words for the
// products that follow, and the slabs whose sum is the gradient of a pair bias.
#pragma once

#include "longfold/kernels/cpu/buffers.h"
#include "longfold/kernels/cpu/pack.h"
#include "longfold/kernels/evoformer_attention.h"

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
  int64_t lanes = 0;
  bool overwrite = false;

  LONGFOLD_INLINE void add(int64_t key, int64_t lane, Vec ds) const {
    if (data == nullptr || lane >= lanes) return;
    float* to = data + key * lanes + lane;
    store(to, overwrite ? ds : load(to) + ds);
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

// One (b, h, panel): the partial copies of the pair-bias gradient, summed in order and turned back to [query][key].
template <class T>
void finish_grad_pair(const BackwardArgs<T>& args, const Shape& shape, int64_t item, const float* workspace) {
  const int64_t panel = item % num_panels(shape);
  const int64_t head = item / num_panels(shape);  // b * H + h
  const int64_t groups = backward_row_groups(shape, true);
  const int64_t lanes = panel_lanes(shape, panel);
  const float* partials = workspace + partial_offset(shape, head * groups, panel);
  const int64_t between = partial_offset(shape, 1, 0);
  const int64_t query = panel * kLanes;
  const int64_t queries = std::min(kLanes, shape.Lq - query);
  const int64_t key_stride = args.grad_pair.strides[3];
  for (int64_t lane = 0; lane < queries; lane += kWidth) {
    for (int64_t key = 0; key < shape.Lk; key += kWidth) {
      const int64_t keys = std::min<int64_t>(kWidth, shape.Lk - key);
      Vec tile[kWidth];
      for (int64_t j = 0; j < kWidth; ++j) {
        const float* from = partials + (key + j) * lanes + lane;
        tile[j] = j < keys ? load(from) : Vec{};
        for (int64_t group = 1; j < keys && group < groups; ++group) tile[j] += load(from + group * between);
      }
      transpose(tile);
      for (int64_t i = 0; i < kWidth && lane + i < queries; ++i) {
        float* to = args.grad_pair.at(head / shape.H, head % shape.H, query + lane + i, key);
        if (key_stride == 1) {
          if (args.add_to_grad_pair) tile[i] += load_part(to, keys);
          store_as(to, tile[i], keys);
        } else {
          for (int64_t j = 0; j < keys; ++j) {
            float& element = to[j * key_stride];
            element = args.add_to_grad_pair ? element + tile[i][j] : tile[i][j];
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace longfold::kernels
