// Forward pass of one item: some neighbouring panels of 64 queries of one head, for a group of rows n that share their
// bias slabs. Blocks of keys pass through scores, running softmax and the gathering of v; see docs/evoformer.md.
#pragma once

#include <limits>

#include "longfold/kernels/cpu/evoformer/biased_logit.h"
#include "longfold/kernels/cpu/evoformer/buffers.h"
#include "longfold/kernels/cpu/evoformer/packed_rows.h"
#include "longfold/kernels/cpu/long_sum.h"
#include "longfold/kernels/cpu/products.h"
#include "longfold/kernels/cpu/running_softmax.h"
#include "longfold/kernels/evoformer_attention.h"

namespace longfold::kernels {
namespace {

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
    softmax_.start_panel();
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
    const Vec scale = splat(static_cast<float>(args_.scale));
    with_biases(scale, pair, mask, [&](const auto& logit) {
      moved = softmax_.block(k, k_.row_words(), keys, key > 0 && keys == kForwardKeys, logit);
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
  RunningSoftmax<kPack<T>, Prefetcher> softmax_{SoftmaxBuffers{.q_panel = buffers_.q_panel,
                                                               .weights = buffers_.weights,
                                                               .largest = buffers_.largest,
                                                               .total = buffers_.total,
                                                               .total_rest = buffers_.total_rest,
                                                               .block = buffers_.block,
                                                               .correction = buffers_.correction},
                                                prefetcher_};
  int64_t b_ = 0, h_ = 0, query_ = 0, queries_ = 0;
};

}  // namespace
}  // namespace longfold::kernels
