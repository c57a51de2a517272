// What becomes of the gradients of the logits, ds[key][64 queries] = weights * (grad_out . v - delta): words for the
// products that follow, and the slabs whose sum is the gradient of a pair bias.
#pragma once

#include "longfold/kernels/cpu/buffers.h"
#include "longfold/kernels/cpu/long_sum.h"
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

// One panel's partial copy of the pair-bias gradient, [Lk][lanes].
struct PartialCopy {
  PartialCopies at{};
  int64_t lanes = 0;
};

// Keys [key, key + keys) of the copy, a long sum, (+)= from[keys][from_lanes].
inline void add_to_partial(const PartialCopy& to, int64_t key, int64_t keys, const float* from, int64_t from_lanes,
                           bool overwrite) {
  for (int64_t j = 0; j < keys; ++j, from += from_lanes) {
    float* sums = to.at.sums + (key + j) * to.lanes;
    uint16_t* rests = to.at.rests + (key + j) * to.lanes;
    for (int64_t lane = 0; lane < to.lanes; lane += kWidth) {
      if (overwrite) {
        store(sums + lane, load(from + lane));
        store_short(rests + lane, ShortVec{});
      } else {
        add_long(load(from + lane), sums + lane, rests + lane);
      }
    }
  }
}

inline void clear_partial(const PartialCopy& to, int64_t keys) {
  for (int64_t i = 0; i < keys * to.lanes; i += kWidth) {
    store(to.at.sums + i, Vec{});
    store_short(to.at.rests + i, ShortVec{});
  }
}

// All of the copy = a long sum of PairSlab.
inline void write_partial(const PartialCopy& to, int64_t keys, const float* sums, const float* negative_rests) {
  for (int64_t i = 0; i < keys * to.lanes; i += kWidth) {
    put_long(load(sums + i), Vec{} - load(negative_rests + i), to.at.sums + i, to.at.rests + i);
  }
}

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

// [kWidth lanes] of the partial copies of one key, added up in order; `rest` is what the roundings left out.
LONGFOLD_INLINE Vec sum_of_copies(PartialCopies first, int64_t copies, int64_t between, Vec& rest) {
  Vec sum = load(first.sums);
  rest = first.rests == nullptr ? Vec{} : widen_bfloat16(load_short(first.rests));
  for (int64_t copy = 1; copy < copies; ++copy) {
    Vec lost;
    sum = two_sum(sum, load(first.sums + copy * between), lost);
    if (first.rests != nullptr) lost += widen_bfloat16(load_short(first.rests + copy * between));
    rest += lost;
  }
  return sum;
}

// Puts one element of the sum, with its rest, where the caller wants it.
template <class T>
LONGFOLD_INLINE void put_grad_pair(const BackwardArgs<T>& args, int64_t b, int64_t h, int64_t query, int64_t key,
                                   float sum, float rest) {
  float& to = args.grad_pair(b, h, query, key);
  if (args.grad_pair_rest.data != nullptr) {
    float& to_rest = args.grad_pair_rest(b, h, query, key);
    if (!args.add_to_grad_pair) to = to_rest = 0;
    to_rest += rest;
    add_long(sum, to, to_rest);
  } else {
    to = args.add_to_grad_pair ? to + joined(sum, rest) : joined(sum, rest);
  }
}

// One (b, h, panel): the partial copies of the pair-bias gradient, summed in order and turned back to [query][key].
template <class T>
void finish_grad_pair(const BackwardArgs<T>& args, const Shape& shape, int64_t item, float* workspace) {
  const int64_t panel = item % num_panels(shape);
  const int64_t head = item / num_panels(shape);  // b * H + h
  const int64_t b = head / shape.H, h = head % shape.H;
  const int64_t groups = cut_backward(shape, true).row_groups;
  const int64_t lanes = panel_lanes(shape, panel);
  const PartialCopies copies = PartialCopies(shape, workspace).of_panel(shape, head * groups, panel);
  const int64_t between = partial_offset(shape, 1, 0);
  const int64_t query = panel * kLanes;
  const int64_t queries = std::min(kLanes, shape.Lq - query);
  const bool whole_vectors =
      args.grad_pair.strides[3] == 1 && !args.add_to_grad_pair && args.grad_pair_rest.data == nullptr;
  for (int64_t lane = 0; lane < queries; lane += kWidth) {
    for (int64_t key = 0; key < shape.Lk; key += kWidth) {
      const int64_t keys = std::min<int64_t>(kWidth, shape.Lk - key);
      Vec sums[kWidth] = {}, rests[kWidth] = {};
      for (int64_t j = 0; j < keys; ++j) {
        PartialCopies at = copies;
        at.sums += (key + j) * lanes + lane;
        if (at.rests != nullptr) at.rests += (key + j) * lanes + lane;
        sums[j] = sum_of_copies(at, groups, between, rests[j]);
        if (whole_vectors) sums[j] = joined(sums[j], rests[j]);
      }
      transpose(sums);
      if (!whole_vectors) transpose(rests);
      for (int64_t i = 0; i < kWidth && lane + i < queries; ++i) {
        const int64_t at = query + lane + i;
        if (whole_vectors) {
          store_as(args.grad_pair.at(b, h, at, key), sums[i], keys);
        } else {
          for (int64_t j = 0; j < keys; ++j) put_grad_pair(args, b, h, at, key + j, sums[i][j], rests[i][j]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace longfold::kernels
