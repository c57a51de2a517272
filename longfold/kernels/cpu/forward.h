// Forward pass of one item: some neighbouring panels of 64 queries of one head, for a group of rows n that share their
// bias slabs. Blocks of keys pass through scores, running softmax and the gathering of v; see docs/evoformer.md.
#pragma once

#include <limits>

#include "longfold/kernels/cpu/bias_panel.h"
#include "longfold/kernels/cpu/buffers.h"
#include "longfold/kernels/cpu/long_sum.h"
#include "longfold/kernels/cpu/products.h"
#include "longfold/kernels/evoformer_attention.h"

namespace longfold::kernels {
namespace {

constexpr float kNothingYet = -std::numeric_limits<float>::max();  // running maximum before the first key
constexpr bool kWeighAtOnce = kRegisters == 32;                    // with 16 registers, two steps are faster
constexpr int kSumKeys = kWeighAtOnce ? kWeighRows : 16;           // weights added up in one chain
// A maximum moves when a logit passes it by more than this: e^12 = 162755 is far from overflow, and most rows then
// never move theirs after the first block.
constexpr float kMargin = kWeighAtOnce ? 12 : 0;
constexpr int64_t kRest = 12;  // blocks done in two steps after one that had to be done again

template <class T>
class ForwardItem {
 public:
  ForwardItem(const ForwardArgs<T>& args, const Shape& shape, float* scratch)
      : args_(args),
        shape_(shape),
        cut_(cut_forward(shape, args.num_threads)),
        buffers_(shape, cut_.panel_group, scratch),
        biases_(args.biases, shape, slab_held(shape, false), buffers_.slab, buffers_.row_slab, buffers_.mask),
        k_(args.k, shape, PackedRows<T>::Form::kRows, kForwardKeys, buffers_.k_rows),
        v_(args.v, shape, PackedRows<T>::Form::kPairs, kForwardKeys, buffers_.v_pairs),
        out_(buffers_.out_panel, buffers_.out_sum, buffers_.out_rest, kLanes * shape.D, shape.Lk) {}

  void run(int64_t item) {
    const int64_t row_group = item % cut_.row_groups;
    const int64_t panel_group = item / cut_.row_groups % cut_.panel_groups;
    h_ = item / cut_.row_groups / cut_.panel_groups % shape_.H;
    b_ = item / cut_.row_groups / cut_.panel_groups / shape_.H;
    const int64_t first = num_panels(shape_) * panel_group / cut_.panel_groups;
    const int64_t last = num_panels(shape_) * (panel_group + 1) / cut_.panel_groups;
    biases_.start_group(b_, h_, first, last);
    const int64_t begin = shape_.N * row_group / cut_.row_groups, end = shape_.N * (row_group + 1) / cut_.row_groups;
    for (int64_t n = begin; n < end; ++n) {
      biases_.start_row(n);
      k_.start_row(b_, n, h_);
      v_.start_row(b_, n, h_);
      for (int64_t panel = first; panel < last; ++panel) {
        if (!is_single_row(shape_)) prefetch_next(n, panel, first, last, n + 1 < end);
        run_panel(n, panel);
      }
    }
  }

 private:
  [[nodiscard]] int64_t num_queries(int64_t panel) const { return std::min(kLanes, shape_.Lq - panel * kLanes); }

  // One head's matrix of row n, from row `first` of its length on, of a tensor [B, N, L, H, D].
  template <class U>
  [[nodiscard]] Matrix<U> matrix(const TensorView<U, 5>& from, int64_t n, int64_t first) const {
    return {from.at(b_, n, first, h_), from.strides[2], from.strides[4]};
  }

  // While a panel is worked on: where its output goes, the queries of the next, and its share of the next row's keys.
  void prefetch_next(int64_t n, int64_t panel, int64_t first, int64_t last, bool more_rows) {
    prefetcher_.clear();
    if (panel + 1 < last)
      prefetcher_.add(matrix(args_.q, n, (panel + 1) * kLanes), 0, num_queries(panel + 1), shape_.D);
    else if (more_rows)
      prefetcher_.add(matrix(args_.q, n + 1, first * kLanes), 0, num_queries(first), shape_.D);
    if (more_rows) {
      const int64_t part = panel - first, parts = last - first;
      const int64_t begin = shape_.Lk * part / parts, end = shape_.Lk * (part + 1) / parts;
      prefetcher_.add(matrix(args_.k, n + 1, 0), begin, end, shape_.D);
      prefetcher_.add(matrix(args_.v, n + 1, 0), begin, end, shape_.D);
    }
    prefetcher_.add(matrix(args_.out, n, panel * kLanes), 0, num_queries(panel), shape_.D);
    prefetcher_.spread(num_steps(shape_.Lk));
  }

  // The same for a block of a single row: the next one's biases, and a share of the output and the next queries.
  void prefetch_block(int64_t key, int64_t keys) {
    prefetcher_.clear();
    biases_.prefetch(key + keys, kForwardKeys, prefetcher_);
    const auto add = [&](const auto& tensor, int64_t first) {
      if (first >= shape_.Lq) return;
      const int64_t rows = std::min(kLanes, shape_.Lq - first);
      prefetcher_.add(matrix(tensor, 0, first), rows * key / shape_.Lk, rows * (key + keys) / shape_.Lk, shape_.D);
    };
    add(args_.out, query_);
    add(args_.q, query_ + kLanes);
    prefetcher_.spread(num_steps(keys));
  }

  // Steps of the prefetcher while so many keys pass.
  [[nodiscard]] static int64_t num_steps(int64_t keys) {
    constexpr int kRows = kWeighAtOnce ? kWeighRows : kTileRows<kTileColumns>;
    return num_score_tiles<kRows>(keys, kForwardKeys);
  }

  void run_panel(int64_t n, int64_t panel) {
    biases_.start_panel(panel);
    query_ = panel * kLanes;
    queries_ = num_queries(panel);
    rows_to_panel<kPack<T>>(matrix(args_.q, n, query_), queries_, shape_.D, buffers_.q_panel);
    for (int64_t lane = 0; lane < kLanes; lane += kWidth) {
      store(buffers_.largest + lane, splat(kNothingYet));
      store(buffers_.total + lane, Vec{});
      store(buffers_.total_rest + lane, Vec{});
    }
    if (biases_.hides_all()) {
      for (int64_t lane = 0; lane < kLanes; lane += kWidth) {
        store(buffers_.largest + lane, splat(kHiddenLogit));
        store(buffers_.total + lane, splat(1.0f));
      }
    } else {
      for (int64_t key = 0; key < shape_.Lk; key += kForwardKeys) {
        block(key, std::min(kForwardKeys, shape_.Lk - key));
        out_.end_block(key + kForwardKeys);
      }
      out_.finish();
    }
    finish(n);
  }

  void block(int64_t key, int64_t keys) {
    if (is_single_row(shape_)) prefetch_block(key, keys);
    const float* pair = biases_.block(key, keys);
    const MaskRow mask = biases_.mask(key, keys);
    const float* k = k_.block(key, keys);
    bool moved = false;
    with_biases(pair, mask, [&]<bool HasPair, Masking Mask>() {
      if constexpr (kWeighAtOnce) {
        if (key > 0 && keys == kForwardKeys && --rest_ < 0) {
          if (weigh<HasPair, Mask>(k, keys, pair, mask)) return;
          rest_ = kRest;
        }
      }
      scores<HasPair, Mask>(k, keys, pair, mask);
      moved = softmax(keys);
    });
    const float* v = v_.block(key, keys);
    const float *w = buffers_.weights, *correction = buffers_.correction;
    if (moved) out_.scale(key, correction);
    if (PanelSum::starts_at(key))
      gather<Gather::kFirst, kPack<T>>(v, w, shape_.D, keys, correction, buffers_.out_panel);
    else if (moved)
      gather<Gather::kCorrectAndAdd, kPack<T>>(v, w, shape_.D, keys, correction, buffers_.out_panel);
    else
      gather<Gather::kAdd, kPack<T>>(v, w, shape_.D, keys, correction, buffers_.out_panel);
  }

  // weights = exp(logits - maximum), as words, straight from the registers of the product. False if a maximum has to
  // move: then the block is done in two steps, scores and softmax, with the same bits for every query whose maximum
  // stays. So whether this is tried is only a matter of speed.
  template <bool HasPair, Masking Mask>
  bool weigh(const float* k, int64_t keys, const float* pair, MaskRow mask) {
    constexpr int C = kTileColumns;
    const Vec scale = splat(static_cast<float>(args_.scale));
    const float* const maximum = buffers_.largest;
    float* const weights = buffers_.weights;
    Vec largest[C], total[C];
    bool stays = true;
    for_score_tiles<kPack<T>, kWeighRows>(
        k, buffers_.q_panel, k_.row_words(), keys, prefetcher_,
        [&](int64_t lane) LONGFOLD_INLINE_LAMBDA {
          for (int c = 0; c < C; ++c) {
            largest[c] = load(maximum + lane + c * kWidth);
            total[c] = Vec{};
          }
        },
        [&]<int R>(Tile<R, C>& tile, int64_t key, int64_t lane) LONGFOLD_INLINE_LAMBDA {
          Vec part[C] = {};  // sums of sums: a long chain of additions would lose digits that the whole row needs
          for_weights<HasPair, Mask>(
              tile, scale, pair, mask, key, lane, maximum, [&](int r, int c, Vec s, Vec w) LONGFOLD_INLINE_LAMBDA {
                largest[c] = max(s, largest[c]);
                part[c] += w;
                store_weight<R>(tile, r, c, w, weights + (key + r) / kPack<T> * kLanes + lane + c * kWidth);
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
    if constexpr (kPack<T> == 1) {
      store(to, w);
    } else {
      tile.acc[r][c] = w;
      if (r % 2 == 1) store(to, join_bfloat16(tile.acc[r - 1][c], w));
    }
  }

  // weights[key][64] = logits; block[64] = the largest of them and the maximum so far.
  template <bool HasPair, Masking Mask>
  void scores(const float* k, int64_t keys, const float* pair, MaskRow mask) {
    constexpr int C = kTileColumns;
    const Vec scale = splat(static_cast<float>(args_.scale));
    Vec largest[C];
    for_score_tiles<kPack<T>, kTileRows<C>>(
        k, buffers_.q_panel, k_.row_words(), keys, prefetcher_,
        [&](int64_t lane) LONGFOLD_INLINE_LAMBDA {
          for (int c = 0; c < C; ++c) largest[c] = load(buffers_.largest + lane + c * kWidth);
        },
        [&]<int R>(Tile<R, C>& tile, int64_t key, int64_t lane) LONGFOLD_INLINE_LAMBDA {
#pragma GCC unroll 16
          for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
            for (int c = 0; c < C; ++c) {
              const Vec s = biased<HasPair, Mask>(tile, r, c, scale, pair, mask, key, lane);
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
        for (int64_t i = round_up(key, kPack<T>); i < key + R; i += kPack<T>) {
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
    if constexpr (kPack<T> == 1) {
      store(at, first);
    } else {
      const Vec second = key + 1 < keys ? exp_difference(load(at + kLanes), largest) : Vec{};
      sum += second;
      store(buffers_.weights + key / 2 * kLanes + lane, join_bfloat16(first, second));
    }
  }

  void finish(int64_t n) {
    alignas(64) float log_sum_exp[kLanes], lse_correction[kLanes];
    const Vec bound = splat(kFullyMaskedLogit);
    bool any_masked = false;
    for (int64_t lane = 0; lane < kLanes; lane += kWidth) {
      const Vec total = joined(load(buffers_.total + lane), load(buffers_.total_rest + lane));
      // max passes over NaN, the sum does not.
      const Vec largest =
          select_at_most(total, splat(std::numeric_limits<float>::infinity()), load(buffers_.largest + lane), total);
      store(buffers_.largest + lane, largest);
      any_masked |= any_at_most(largest, bound);
      store(buffers_.correction + lane, select_at_most(largest, bound, Vec{}, 1.0f / total));
      const Vec log_total = log(total), lse = largest + log_total;
      const Vec added = lse - largest, lost = (largest - (lse - added)) + (log_total - added);  // by rounding lse
      store(log_sum_exp + lane, select_at_most(largest, bound, largest, lse));
      Vec rest;
      const Vec sum = exp_with_rest(log_total, rest);
      const Vec factor = sum / total * (1.0f + (rest - lost));
      store(lse_correction + lane, select_at_most(largest, bound, splat(1.0f), factor));
    }
    if (any_masked) fill_masked_rows(n);
    panel_to_rows(buffers_.out_panel, buffers_.correction, shape_.D, matrix(args_.out, n, query_), queries_);
    for (int64_t i = 0; i < queries_; ++i) {
      const bool nothing = log_sum_exp[i] == kNothingYet && buffers_.total[i] == 0;
      *args_.log_sum_exp.at(b_, n, h_, query_ + i) = nothing ? -std::numeric_limits<float>::infinity() : log_sum_exp[i];
      *args_.lse_correction.at(b_, n, h_, query_ + i) = lse_correction[i];
    }
  }

  // Rare: fully masked rows give the mean of v over all keys, or zero, whatever was summed so far.
  void fill_masked_rows(int64_t n) {
    const Vec bound = splat(kFullyMaskedLogit);
    for (int64_t d = 0; d < shape_.D; ++d) {
      const Vec value = splat(args_.fully_masked == FullyMasked::kMean ? mean_of_v(n, d) : 0.0f);
      for (int64_t lane = 0; lane < kLanes; lane += kWidth) {
        float* out = buffers_.out_panel + d * kLanes + lane;
        store(out, select_at_most(load(buffers_.largest + lane), bound, value, load(out)));
      }
    }
    for (int64_t lane = 0; lane < kLanes; lane += kWidth) {
      float* factor = buffers_.correction + lane;
      store(factor, select_at_most(load(buffers_.largest + lane), bound, splat(1.0f), load(factor)));
    }
  }

  [[nodiscard]] float mean_of_v(int64_t n, int64_t d) const {
    double sum = 0;
    for (int64_t key = 0; key < shape_.Lk; ++key) sum += element(*args_.v.at(b_, n, key, h_, d));
    return static_cast<float>(sum / static_cast<double>(shape_.Lk));
  }

  const ForwardArgs<T>& args_;
  Shape shape_;
  ForwardCut cut_;
  ForwardBuffers buffers_;
  BiasPanel biases_;
  PackedRows<T> k_, v_;
  PanelSum out_;
  Prefetcher prefetcher_;
  int64_t b_ = 0, h_ = 0, query_ = 0, queries_ = 0;
  int64_t rest_ = 0;  // blocks before `weigh` is tried again
};

}  // namespace
}  // namespace longfold::kernels
