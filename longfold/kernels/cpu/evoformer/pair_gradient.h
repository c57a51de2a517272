// The gradient of a pair bias in one item: logit gradients summed over its rows n, into its partial copy; or, of a
// single row, straight to where the caller wants them.
#pragma once

#include "longfold/kernels/cpu/evoformer/buffers.h"
#include "longfold/kernels/cpu/evoformer/pair_slab.h"
#include "longfold/kernels/cpu/long_sum.h"
#include "longfold/kernels/cpu/pack.h"
#include "longfold/kernels/evoformer_attention.h"

namespace longfold::kernels {
namespace {

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

// Puts [queries][keys] of the sum, at most kWidth of each, turned from [key][query].
template <class T>
LONGFOLD_INLINE void put_grad_pair(const BackwardArgs<T>& args, int64_t b, int64_t h, int64_t query, int64_t queries,
                                   int64_t key, int64_t keys, Vec (&sums)[kWidth], Vec (&rests)[kWidth]) {
  const bool whole_vectors =
      args.grad_pair.strides[3] == 1 && !args.add_to_grad_pair && args.grad_pair_rest.data == nullptr;
  if (whole_vectors) {
    for (int j = 0; j < kWidth; ++j) sums[j] = joined(sums[j], rests[j]);
    transpose(sums);
    for (int64_t i = 0; i < queries; ++i) store_as(args.grad_pair.at(b, h, query + i, key), sums[i], keys);
    return;
  }
  transpose(sums);
  transpose(rests);
  for (int64_t i = 0; i < queries; ++i) {
    for (int64_t j = 0; j < keys; ++j) put_grad_pair(args, b, h, query + i, key + j, sums[i][j], rests[i][j]);
  }
}

// The gradient of a pair bias in one item: logit gradients summed over its rows n, into its partial copy.
template <class T>
class PairGradient {
 public:
  PairGradient(const BackwardArgs<T>& args, const Shape& shape, const BackwardBuffers& buffers, float* workspace)
      : args_(args),
        shape_(shape),
        wanted_(args.grad_pair.data != nullptr),
        how_(pair_sum(shape)),
        sums_(buffers.pair_sum),
        rests_(buffers.pair_rest),
        copies_(shape, workspace) {}

  [[nodiscard]] bool wanted() const { return wanted_; }
  // Whether blocks of logit gradients are to be given to add_block.
  [[nodiscard]] bool by_block() const { return wanted_ && (how_ == PairSum::kBlocks || how_ == PairSum::kDirect); }
  // Where logit gradients of the current row n and panel are added up as they are made, from a key on.
  [[nodiscard]] PairSlab slab(int64_t key) const { return slab_.from_key(key); }

  // Rows [begin, end) of an item.
  void start_item(int64_t item, int64_t b, int64_t h, int64_t begin, int64_t end) {
    item_ = item;
    b_ = b;
    h_ = h;
    item_begin_ = begin;
    item_end_ = end;
  }

  // Row n and a panel; `begin` is the first of the rows at once.
  void start_panel(int64_t n, int64_t begin, int64_t panel, int64_t first_panel) {
    if (!wanted_) return;
    n_ = n;
    panel_ = panel;
    if (how_ == PairSum::kDirect) return;
    copy_ = {copies_.of_panel(shape_, item_, panel), panel_lanes(shape_, panel)};
    const int64_t at = (panel - first_panel) * shape_.Lk * kLanes;
    switch (how_) {
      case PairSum::kPlain:
        slab_ = {.data = copy_.at.sums, .lanes = copy_.lanes, .overwrite = n == item_begin_};
        return;
      case PairSum::kItem:
        slab_ = {.data = sums_ + at, .rest = rests_ + at, .lanes = copy_.lanes, .overwrite = n == item_begin_};
        return;
      case PairSum::kRows:
        slab_ = {.data = sums_ + at, .lanes = copy_.lanes, .overwrite = n == begin};
        return;
      case PairSum::kBlocks:
      case PairSum::kDirect:
        return;
    }
  }

  void add_block(int64_t key, int64_t keys, const float* grads) const {
    if (how_ == PairSum::kDirect)
      put_block(key, keys, [&](int64_t j, int64_t lane) LONGFOLD_INLINE_LAMBDA {
        return load(grads + (j - key) * kLanes + lane);
      });
    else
      add_to_partial(copy_, key, keys, grads, kLanes, n_ == item_begin_);
  }

  // Asks for where add_block will write, if it writes there for the caller.
  void prefetch(int64_t key, int64_t keys, Prefetcher& prefetcher) const {
    if (!wanted_ || how_ != PairSum::kDirect || args_.grad_pair.strides[3] != 1) return;
    const int64_t query = panel_ * kLanes, queries = std::min(kLanes, shape_.Lq - query);
    prefetcher.add(Matrix{args_.grad_pair.at(b_, h_, query, key), args_.grad_pair.strides[2], 1}, 0, queries, keys);
  }

  // The panel has no gradient at all.
  void skip_panel() const {
    if (!wanted_) return;
    if (how_ == PairSum::kDirect) put_block(0, shape_.Lk, [](int64_t, int64_t) { return Vec{}; });
    if (how_ == PairSum::kBlocks && n_ == item_begin_) clear_partial(copy_, shape_.Lk);
    if (slab_.data != nullptr && slab_.overwrite) slab_.clear(shape_.Lk);
  }

  // After row n of the rows at once [begin, end): what is summed in scratch goes to the partial copies, when the last
  // row at hand is done.
  void end_row(int64_t n, int64_t begin, int64_t end, int64_t first_panel, int64_t last_panel) {
    const bool item = how_ == PairSum::kItem && n + 1 == item_end_;
    const bool rows = how_ == PairSum::kRows && n + 1 == end;
    if (!wanted_ || !(item || rows)) return;
    for (int64_t panel = first_panel; panel < last_panel; ++panel) {
      start_panel(n, begin, panel, first_panel);
      if (item)
        write_partial(copy_, shape_.Lk, slab_.data, slab_.rest);
      else
        add_to_partial(copy_, 0, shape_.Lk, slab_.data, copy_.lanes, begin == item_begin_);
    }
  }

 private:
  // Keys [first, first + keys) of the panel to where the caller wants them: grads(key, lane) is a vector of queries.
  template <class Grads>
  LONGFOLD_INLINE void put_block(int64_t first, int64_t keys, Grads&& grads) const {
    const int64_t query = panel_ * kLanes, queries = std::min(kLanes, shape_.Lq - query);
    for (int64_t lane = 0; lane < queries; lane += kWidth) {
      for (int64_t key = first; key < first + keys; key += kWidth) {
        const int64_t count = std::min<int64_t>(kWidth, first + keys - key);
        Vec tile[kWidth] = {}, rests[kWidth] = {};
        for (int64_t j = 0; j < count; ++j) tile[j] = grads(key + j, lane);
        put_grad_pair(args_, b_, h_, query + lane, std::min<int64_t>(kWidth, queries - lane), key, count, tile, rests);
      }
    }
  }

  const BackwardArgs<T>& args_;
  Shape shape_;
  bool wanted_;
  PairSum how_;
  float* sums_;
  float* rests_;
  PartialCopies copies_;
  int64_t item_ = 0, item_begin_ = 0, item_end_ = 0;  // rows n of the item
  int64_t b_ = 0, h_ = 0, n_ = 0, panel_ = 0;
  PairSlab slab_{};     // of the current panel
  PartialCopy copy_{};  // of the current panel
};

}  // namespace
}  // namespace longfold::kernels
