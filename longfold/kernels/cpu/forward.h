// Forward pass of one item: some neighbouring panels of 64 queries of one head, for a group of rows n that share their
// bias slabs. Blocks of keys pass through scores, running softmax and the gathering of v; see docs/evoformer.md.
#pragma once

#include <limits>

#include "longfold/kernels/cpu/bias_panel.h"
#include "longfold/kernels/cpu/buffers.h"
#include "longfold/kernels/cpu/products.h"
#include "longfold/kernels/evoformer_attention.h"

namespace longfold::kernels {
namespace {

constexpr float kNothingYet = -std::numeric_limits<float>::max();  // running maximum before the first key
constexpr int64_t kSumKeys = 16;                                   // weights added up in one chain

template <class T>
class ForwardItem {
 public:
  ForwardItem(const ForwardArgs<T>& args, const Shape& shape, float* scratch)
      : args_(args),
        shape_(shape),
        dim_(padded_head_dim(shape)),
        buffers_(shape, scratch),
        biases_(args.biases, shape, buffers_.slab, buffers_.row_slab, buffers_.mask),
        k_(args.k, shape, kForwardKeys, buffers_.k_rows),
        v_(args.v, shape, kForwardKeys, buffers_.v_rows) {}

  void run(int64_t item) {
    const int64_t row_groups = forward_row_groups(shape_), panel_groups = forward_panel_groups(shape_);
    const int64_t row_group = item % row_groups;
    const int64_t panel_group = item / row_groups % panel_groups;
    h_ = item / row_groups / panel_groups % shape_.H;
    b_ = item / row_groups / panel_groups / shape_.H;
    const int64_t first = num_panels(shape_) * panel_group / panel_groups;
    const int64_t last = num_panels(shape_) * (panel_group + 1) / panel_groups;
    biases_.start_group(b_, h_, first, last);
    const int64_t begin = shape_.N * row_group / row_groups, end = shape_.N * (row_group + 1) / row_groups;
    for (int64_t n = begin; n < end; ++n) {
      biases_.start_row(n);
      k_.start_row(b_, n, h_);
      v_.start_row(b_, n, h_);
      for (int64_t panel = first; panel < last; ++panel) {
        const bool more_rows = n + 1 < end;
        if (more_rows) prefetch_keys(n + 1, panel - first, last - first);
        if (panel + 1 < last)
          prefetch_rows(queries(args_.q, n, panel + 1), 0, num_queries(panel + 1), shape_.D);
        else if (more_rows)
          prefetch_rows(queries(args_.q, n + 1, first), 0, num_queries(first), shape_.D);
        prefetch_rows<true>(queries(args_.out, n, panel), 0, num_queries(panel), shape_.D);
        run_panel(n, panel);
      }
    }
  }

 private:
  [[nodiscard]] int64_t num_queries(int64_t panel) const { return std::min(kLanes, shape_.Lq - panel * kLanes); }

  // The rows of a panel of a tensor [B, N, Lq, H, D].
  template <class U>
  [[nodiscard]] Matrix<U> queries(const TensorView<U, 5>& from, int64_t n, int64_t panel) const {
    return {from.at(b_, n, panel * kLanes, h_), from.strides[2], from.strides[4]};
  }

  // Part `part` of `parts` of the keys and values of row n.
  void prefetch_keys(int64_t n, int64_t part, int64_t parts) const {
    const int64_t begin = shape_.Lk * part / parts, end = shape_.Lk * (part + 1) / parts;
    prefetch_rows<false, const T>({args_.k.at(b_, n, 0, h_), args_.k.strides[2], args_.k.strides[4]}, begin, end,
                                  shape_.D);
    prefetch_rows<false, const T>({args_.v.at(b_, n, 0, h_), args_.v.strides[2], args_.v.strides[4]}, begin, end,
                                  shape_.D);
  }

  void run_panel(int64_t n, int64_t panel) {
    biases_.start_panel(panel);
    query_ = panel * kLanes;
    queries_ = std::min(kLanes, shape_.Lq - query_);
    const Matrix<const T> q{args_.q.at(b_, n, query_, h_), args_.q.strides[2], args_.q.strides[4]};
    pack_rows(q, queries_, shape_.D, 1.0f, buffers_.q_rows, kLanes, dim_);
    transpose_panel(buffers_.q_rows, dim_, kLanes, dim_, buffers_.q_panel, kLanes);
    for (int64_t lane = 0; lane < kLanes; lane += kWidth) {
      store(buffers_.largest + lane, splat(kNothingYet));
      store(buffers_.total + lane, Vec{});
    }
    for (int64_t key = 0; key < shape_.Lk; key += kForwardKeys) block(key, std::min(kForwardKeys, shape_.Lk - key));
    finish(n);
  }

  void block(int64_t key, int64_t keys) {
    const float* pair = biases_.block(key, keys);
    const float* mask = biases_.mask(key);
    const KeyRows k_rows = k_.block(key, keys);
    with_biases(pair, mask, [&]<bool HasPair, bool HasMask>() { scores<HasPair, HasMask>(k_rows, keys, pair, mask); });
    const bool moved = softmax(keys);
    const KeyRows v_rows = v_.block(key, keys);
    const float *w = buffers_.weights, *correction = buffers_.correction;
    if (key == 0)
      gather<Gather::kFirst>(v_rows, w, shape_.D, keys, correction, buffers_.out_panel);
    else if (moved)
      gather<Gather::kCorrectAndAdd>(v_rows, w, shape_.D, keys, correction, buffers_.out_panel);
    else
      gather<Gather::kAdd>(v_rows, w, shape_.D, keys, correction, buffers_.out_panel);
  }

  // weights[key][64] = logits; correction[64] = the maximum up to and with this block.
  template <bool HasPair, bool HasMask>
  void scores(KeyRows k, int64_t keys, const float* pair, const float* mask) {
    constexpr int C = kTileColumns;
    const Vec scale = splat(static_cast<float>(args_.scale));
    Vec largest[C];
    for_score_tiles(
        k, buffers_.q_panel, shape_.D, keys,
        [&](int64_t lane) LONGFOLD_INLINE_LAMBDA {
          for (int c = 0; c < C; ++c) largest[c] = load(buffers_.largest + lane + c * kWidth);
        },
        [&]<int R>(Tile<R, C>& tile, int64_t key, int64_t lane) LONGFOLD_INLINE_LAMBDA {
#pragma GCC unroll 16
          for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
            for (int c = 0; c < C; ++c) {
              const Vec s = biased<HasPair, HasMask>(tile, r, c, scale, pair, mask, key, lane);
              largest[c] = max(s, largest[c]);
              store(buffers_.weights + (key + r) * kLanes + lane + c * kWidth, s);
            }
          }
        },
        [&](int64_t lane) LONGFOLD_INLINE_LAMBDA {
          for (int c = 0; c < C; ++c) store(buffers_.correction + lane + c * kWidth, largest[c]);
        });
  }

  // weights = exp(logits - maximum); correction = exp(old maximum - new). Returns whether any maximum moved.
  bool softmax(int64_t keys) {
    constexpr int C = kTileColumns;
    bool moved = false;
    for (int64_t lane = 0; lane < kLanes; lane += C * kWidth) {
      Vec largest[C], total[C];
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) {
        largest[c] = load(buffers_.correction + lane + c * kWidth);
        total[c] = Vec{};
      }
      float* weights = buffers_.weights + lane;
      for (int64_t key = 0; key < keys;) {
        Vec part[C] = {};  // sums of sums: a long chain of additions would lose digits that the whole row needs
        for (const int64_t end = std::min(key + kSumKeys, keys); key < end; ++key, weights += kLanes) {
#pragma GCC unroll 4
          for (int c = 0; c < C; ++c) {
            const Vec w = exp_difference(load(weights + c * kWidth), largest[c]);
            part[c] += w;
            store(weights + c * kWidth, w);
          }
        }
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) total[c] += part[c];
      }
      for (int c = 0; c < C; ++c) {
        const int64_t at = lane + c * kWidth;
        const Vec before = load(buffers_.largest + at);
        const Vec correction = exp_difference(before, largest[c]);
        moved |= !all_equal(before, largest[c]);
        store(buffers_.correction + at, correction);
        store(buffers_.largest + at, largest[c]);
        store(buffers_.total + at, fma(load(buffers_.total + at), correction, total[c]));
      }
    }
    return moved;
  }

  void finish(int64_t n) {
    alignas(64) float log_sum_exp[kLanes], lse_correction[kLanes];
    const Vec bound = splat(kFullyMaskedLogit);
    bool any_masked = false;
    for (int64_t lane = 0; lane < kLanes; lane += kWidth) {
      const Vec largest = load(buffers_.largest + lane);
      const Vec total = load(buffers_.total + lane);
      any_masked |= any_at_most(largest, bound);
      store(buffers_.correction + lane, select_at_most(largest, bound, Vec{}, 1.0f / total));
      const Vec lse = largest + log(total);
      store(log_sum_exp + lane, select_at_most(largest, bound, largest, lse));
      store(lse_correction + lane, select_at_most(largest, bound, splat(1.0f), exp_difference(lse, largest) / total));
    }
    for (int64_t d = 0; d < shape_.D; ++d) {
      float* out = buffers_.out_panel + d * kLanes;
      for (int64_t lane = 0; lane < kLanes; lane += kWidth) {
        store(out + lane, load(out + lane) * load(buffers_.correction + lane));
      }
    }
    if (any_masked && args_.fully_masked == FullyMasked::kMean) mean_of_v(n);
    transpose_panel(buffers_.out_panel, kLanes, dim_, kLanes, buffers_.q_rows, dim_);
    const Matrix<T> out{args_.out.at(b_, n, query_, h_), args_.out.strides[2], args_.out.strides[4]};
    unpack_rows(buffers_.q_rows, dim_, out, queries_, shape_.D);
    for (int64_t i = 0; i < queries_; ++i) {
      const bool nothing = log_sum_exp[i] == kNothingYet;
      *args_.log_sum_exp.at(b_, n, h_, query_ + i) = nothing ? -std::numeric_limits<float>::infinity() : log_sum_exp[i];
      *args_.lse_correction.at(b_, n, h_, query_ + i) = lse_correction[i];
    }
  }

  // Rare: fully masked rows that are to give the mean of v over all keys.
  void mean_of_v(int64_t n) {
    for (int64_t d = 0; d < shape_.D; ++d) {
      double sum = 0;
      for (int64_t key = 0; key < shape_.Lk; ++key) sum += element(*args_.v.at(b_, n, key, h_, d));
      const Vec mean = splat(static_cast<float>(sum / static_cast<double>(shape_.Lk)));
      float* out = buffers_.out_panel + d * kLanes;
      for (int64_t lane = 0; lane < kLanes; lane += kWidth) {
        const Vec largest = load(buffers_.largest + lane);
        store(out + lane, select_at_most(largest, splat(kFullyMaskedLogit), mean, load(out + lane)));
      }
    }
  }

  const ForwardArgs<T>& args_;
  Shape shape_;
  int64_t dim_;
  ForwardBuffers buffers_;
  BiasPanel biases_;
  PackedRows<T> k_, v_;
  int64_t b_ = 0, h_ = 0, query_ = 0, queries_ = 0;
};

}  // namespace
}  // namespace longfold::kernels
