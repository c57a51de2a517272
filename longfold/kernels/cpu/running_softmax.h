// The softmax of a panel of 64 queries while blocks of keys pass: each block's logits become weights relative to the
// largest logit so far, and what was summed with an earlier maximum is corrected when it moves.
#pragma once

#include <limits>

#include "longfold/kernels/cpu/long_sum.h"
#include "longfold/kernels/cpu/products.h"

namespace longfold::kernels {
namespace {

constexpr float kNothingYet = -std::numeric_limits<float>::max();  // running maximum before the first key
constexpr bool kWeighAtOnce = kRegisters == 32;                    // with 16 registers, two steps are faster
constexpr int kSumKeys = kWeighAtOnce ? kWeighRows : 16;           // weights added up in one chain
// A maximum moves when a logit passes it by more than this: e^12 = 162755 is far from overflow, and most rows then
// never move theirs after the first block.
constexpr float kMargin = kWeighAtOnce ? 12 : 0;
constexpr int64_t kRest = 12;  // blocks done in two steps after one that had to be done again

struct SoftmaxBuffers {
  const float* q_panel;  // [D][64] queries, in the lanes, as words
  float* weights;        // [block][64] logits, then weights, as words along the keys
  float* largest;        // [64] running maximum
  float* total;          // [64] running sum
  float* total_rest;     // [64]
  float* block;          // [64] maximum, or sum, of one block
  float* correction;     // [64] what sums so far are multiplied with when the maximum moves
};

template <int Pack, class Prefetching>
class RunningSoftmax {
 public:
  RunningSoftmax(const SoftmaxBuffers& buffers, Prefetching& prefetcher) : buffers_(buffers), prefetcher_(prefetcher) {}

  void start_panel() const {
    for (int64_t lane = 0; lane < kLanes; lane += kWidth) {
      store(buffers_.largest + lane, splat(kNothingYet));
      store(buffers_.total + lane, Vec{});
      store(buffers_.total_rest + lane, Vec{});
    }
  }

  // A block of keys k[keys][words]; logit(tile, r, c, key, lane) is made from tile.acc[r][c]. Returns whether any
  // maximum moved: then sums so far are due for their correction. `may_weigh`: the block is a whole one, not the first.
  template <class Logit>
  LONGFOLD_INLINE bool block(const float* k, int64_t words, int64_t keys, bool may_weigh, Logit logit) {
    if constexpr (kWeighAtOnce) {
      if (may_weigh && --rest_ < 0) {
        if (weigh(k, words, keys, logit)) return false;
        rest_ = kRest;
      }
    }
    scores(k, words, keys, logit);
    return softmax(keys);
  }

 private:
  // weights = exp(logits - maximum), as words, straight from the registers of the product. False if a maximum has to
  // move: then the block is done in two steps, scores and softmax, with the same bits for every query whose maximum
  // stays. So whether this is tried is only a matter of speed.
  template <class Logit>
  bool weigh(const float* k, int64_t words, int64_t keys, Logit logit) {
    constexpr int C = kTileColumns;
    const float* const maximum = buffers_.largest;
    float* const weights = buffers_.weights;
    Vec largest[C], total[C];
    bool stays = true;
    for_score_tiles<Pack, kWeighRows>(
        k, buffers_.q_panel, words, keys, prefetcher_,
        [&](int64_t lane) LONGFOLD_INLINE_LAMBDA {
          for (int c = 0; c < C; ++c) {
            largest[c] = load(maximum + lane + c * kWidth);
            total[c] = Vec{};
          }
        },
        [&]<int R>(Tile<R, C>& tile, int64_t key, int64_t lane) LONGFOLD_INLINE_LAMBDA {
          Vec part[C] = {};  // sums of sums: a long chain of additions would lose digits that the whole row needs
          for_weights(tile, logit, key, lane, maximum, [&](int r, int c, Vec s, Vec w) LONGFOLD_INLINE_LAMBDA {
            largest[c] = max(s, largest[c]);
            part[c] += w;
            store_weight<R>(tile, r, c, w, weights + (key + r) / Pack * kLanes + lane + c * kWidth);
          });
#pragma GCC unroll 4
          for (int c = 0; c < C; ++c) total[c] += part[c];
        },
        [&](int64_t lane) LONGFOLD_INLINE_LAMBDA {
          for (int c = 0; c < C; ++c) {
            const int64_t at = lane + c * kWidth;
            stays &= !any_above(largest[c], load(maximum + at) + splat(kMargin));
            store(buffers_.block + at, total[c]);
          }
        });
    if (!stays) return false;
    for (int64_t lane = 0; lane < kLanes; lane += kWidth) {
      add_long(load(buffers_.block + lane), buffers_.total + lane, buffers_.total_rest + lane);
    }
    return true;
  }

  // Of a block with an even number of keys.
  template <int R, int C>
  LONGFOLD_INLINE static void store_weight(Tile<R, C>& tile, int r, int c, Vec w, float* to) {
    if constexpr (Pack == 1) {
      store(to, w);
    } else {
      tile.acc[r][c] = w;
      if (r % 2 == 1) store(to, join_bfloat16(tile.acc[r - 1][c], w));
    }
  }

  // weights[key][64] = logits; block[64] = the largest of them and the maximum so far.
  template <class Logit>
  void scores(const float* k, int64_t words, int64_t keys, Logit logit) {
    constexpr int C = kTileColumns;
    Vec largest[C];
    for_score_tiles<Pack, kTileRows<C>>(
        k, buffers_.q_panel, words, keys, prefetcher_,
        [&](int64_t lane) LONGFOLD_INLINE_LAMBDA {
          for (int c = 0; c < C; ++c) largest[c] = load(buffers_.largest + lane + c * kWidth);
        },
        [&]<int R>(Tile<R, C>& tile, int64_t key, int64_t lane) LONGFOLD_INLINE_LAMBDA {
#pragma GCC unroll 16
          for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
            for (int c = 0; c < C; ++c) {
              const Vec s = logit(tile, r, c, key, lane);
              largest[c] = max(s, largest[c]);
              store(buffers_.weights + (key + r) * kLanes + lane + c * kWidth, s);
            }
          }
        },
        [&](int64_t lane) LONGFOLD_INLINE_LAMBDA {
          for (int c = 0; c < C; ++c) store(buffers_.block + lane + c * kWidth, largest[c]);
        });
  }

  // weights = exp(logits - maximum), as words; correction = exp(old maximum - new). Returns whether any maximum moved.
  bool softmax(int64_t keys) {
    constexpr int C = kTileColumns;
    bool moved = false;
    for (int64_t lane = 0; lane < kLanes; lane += C * kWidth) {
      Vec largest[C], total[C];
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) {
        const Vec before = load(buffers_.largest + lane + c * kWidth);
        const Vec now = load(buffers_.block + lane + c * kWidth);
        largest[c] = select_at_most(now, before + splat(kMargin), before, now);
        total[c] = Vec{};
      }
      for_row_groups<kSumKeys>(keys, [&]<int R>(Rows<R>, int64_t key) LONGFOLD_INLINE_LAMBDA {
        Vec part[C] = {};  // sums of sums: a long chain of additions would lose digits that the whole row needs
        // A tile of one row that begins within a pair finds it done.
        for (int64_t i = round_up(key, Pack); i < key + R; i += Pack) {
#pragma GCC unroll 4
          for (int c = 0; c < C; ++c) softmax_key(i, keys, lane + c * kWidth, largest[c], part[c]);
        }
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) total[c] += part[c];
      });
      for (int c = 0; c < C; ++c) {
        const int64_t at = lane + c * kWidth;
        const Vec before = load(buffers_.largest + at);
        // Exactly 1 where nothing moved: exp(0) is not, and its error would grow with every block.
        const Vec correction = select_at_most(largest[c], before, splat(1.0f), exp_difference(before, largest[c]));
        moved |= !all_equal(before, largest[c]);
        store(buffers_.correction + at, correction);
        store(buffers_.largest + at, largest[c]);
        store(buffers_.total + at, load(buffers_.total + at) * correction);
        store(buffers_.total_rest + at, load(buffers_.total_rest + at) * correction);
        add_long(total[c], buffers_.total + at, buffers_.total_rest + at);
      }
    }
    return moved;
  }

  // The weights of one key, or of a pair that becomes one row of words in the place of earlier logits.
  LONGFOLD_INLINE void softmax_key(int64_t key, int64_t keys, int64_t lane, Vec largest, Vec& sum) {
    float* at = buffers_.weights + key * kLanes + lane;
    const Vec first = exp_difference(load(at), largest);
    sum += first;
    if constexpr (Pack == 1) {
      store(at, first);
    } else {
      const Vec second = key + 1 < keys ? exp_difference(load(at + kLanes), largest) : Vec{};
      sum += second;
      store(buffers_.weights + key / 2 * kLanes + lane, join_bfloat16(first, second));
    }
  }

  SoftmaxBuffers buffers_;
  Prefetching& prefetcher_;
  int64_t rest_ = 0;  // blocks before `weigh` is tried again
};

}  // namespace
}  // namespace longfold::kernels
