// Backward pass of one item: one head, a group of rows n. The weights are recomputed from the log-sum-exp, and each
// block of keys takes five products: scores, grad_out . v, and the sums of grad_v, grad_k and grad_q. Bias slabs of a
// group of panels, and slabs of the pair-bias gradient, stay in the cache while all rows of the item pass.
//
// 16-bit types sum delta from the weights of a whole row before they go on: rows that fit keep them in between, longer
// ones compute them twice. Where grad_k and grad_v of a row do not fit in scratch, the keys pass in parts, and the
// weights are computed once for each. See docs/evoformer.md.
#pragma once

#include <algorithm>
#include <limits>

#include "longfold/kernels/cpu/evoformer/biased_logit.h"
#include "longfold/kernels/cpu/evoformer/buffers.h"
#include "longfold/kernels/cpu/evoformer/key_sums.h"
#include "longfold/kernels/cpu/evoformer/packed_rows.h"
#include "longfold/kernels/cpu/evoformer/pair_gradient.h"
#include "longfold/kernels/cpu/evoformer/pair_slab.h"
#include "longfold/kernels/cpu/gradient_words.h"
#include "longfold/kernels/cpu/long_sum.h"
#include "longfold/kernels/cpu/products.h"
#include "longfold/kernels/cpu/scatter_rows.h"
#include "longfold/kernels/evoformer_attention.h"

namespace longfold::kernels {
namespace {

template <class T>
class BackwardItem {
 public:
  BackwardItem(const BackwardArgs<T>& args, const Shape& shape, float* scratch, float* workspace)
      : args_(args),
        shape_(shape),
        whole_row_(kDeltaFromWeights<T> && backward_weight_keys(shape, true) == shape.Lk),
        buffers_(shape, kDeltaFromWeights<T>, scratch),
        pair_(args, shape, buffers_, workspace),
        sums_(args, shape, buffers_, workspace),
        biases_(args.biases, shape, slab_held(shape, backward_keys_pass_twice(shape, kDeltaFromWeights<T>)),
                buffers_.slab, buffers_.row_slab, buffers_.mask),
        k_(args.k, shape, PackedRows<T>::Form::kRows, kBackwardKeys, buffers_.k_rows),
        k_pairs_(args.k, shape, PackedRows<T>::Form::kPairs, kBackwardKeys, buffers_.k_pairs),
        v_(args.v, shape, PackedRows<T>::Form::kRows, kBackwardKeys, buffers_.v_rows),
        grad_q_(buffers_.grad_q_panel, buffers_.grad_q_sum, buffers_.grad_q_rest, kLanes * shape.D, shape.Lk) {}

  void run(int64_t item) {
    const BackwardCut cut = cut_backward(shape_, pair_.wanted());
    const int64_t group = item % cut.row_groups, span_group = item / cut.row_groups % cut.span_groups;
    const int64_t head = item / cut.row_groups / cut.span_groups;
    h_ = head % shape_.H;
    b_ = head / shape_.H;
    const int64_t first = shape_.N * group / cut.row_groups, last = shape_.N * (group + 1) / cut.row_groups;
    const auto first_panel = [&](int64_t spans) {
      return first_panel_of_span(shape_, num_spans(shape_) * spans / cut.span_groups);
    };
    panels_begin_ = first_panel(span_group);
    panels_end_ = first_panel(span_group + 1);
    pair_.start_item(item, b_, h_, first, last);
    const int64_t at_once = backward_rows_at_once(shape_), part = sums_.keys_at_once();
    for (int64_t n = first; n < last; n += at_once) {
      for (part_begin_ = 0; part_begin_ < shape_.Lk; part_begin_ += part) {
        part_end_ = std::min(part_begin_ + part, shape_.Lk);
        rows(n, std::min(n + at_once, last));
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

  // Rows [begin, end), the keys of one part.
  void rows(int64_t begin, int64_t end) {
    sums_.start(b_, h_, end - begin, part_begin_, part_end_);
    const int64_t groups = backward_panel_groups(shape_), panels = panels_end_ - panels_begin_;
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t first_panel = panels_begin_ + panels * group / groups;
      const int64_t last_panel = panels_begin_ + panels * (group + 1) / groups;
      biases_.start_group(b_, h_, first_panel, last_panel);
      for (int64_t n = begin; n < end; ++n) {
        biases_.start_row(n);
        k_.start_row(b_, n, h_, &biases_);
        if constexpr (kPack<T> == 2) k_pairs_.start_row(b_, n, h_, &biases_);
        v_.start_row(b_, n, h_);
        for (int64_t panel = first_panel; panel < last_panel; ++panel) {
          pair_.start_panel(n, begin, panel, first_panel);
          if (!is_single_row(shape_)) prefetch_next(n, panel, first_panel, last_panel, n + 1 < shape_.N);
          sums_.start_panel(n - begin, panel);
          run_panel(n, panel);
          sums_.end_panel(panel);
        }
        if (part_begin_ == 0) pair_.end_row(n, begin, end, first_panel, last_panel);
      }
    }
    sums_.write(b_, h_, begin, end);
  }

  // While a panel is worked on: the next panel's rows, this one's output, and a share of the next row's keys.
  void prefetch_next(int64_t n, int64_t panel, int64_t first, int64_t last, bool more_rows) {
    prefetcher_.clear();
    const bool more_panels = panel + 1 < last;
    if (more_panels || more_rows) {
      const int64_t next_n = more_panels ? n : n + 1, next = more_panels ? panel + 1 : first;
      for (const auto* tensor : {&args_.q, &args_.grad_out, &args_.out}) {
        prefetcher_.add(matrix(*tensor, next_n, next * kLanes), 0, num_queries(next), shape_.D);
      }
    }
    const int64_t part = panel - first, parts = last - first;
    const int64_t begin = shape_.Lk * part / parts, end = shape_.Lk * (part + 1) / parts;
    if (more_rows) {
      prefetcher_.add(matrix(args_.k, n + 1, 0), begin, end, shape_.D);
      prefetcher_.add(matrix(args_.v, n + 1, 0), begin, end, shape_.D);
    }
    prefetcher_.add(matrix(args_.grad_q, n, panel * kLanes), 0, num_queries(panel), shape_.D);
    prefetcher_.add(matrix(args_.grad_k, n, 0), begin, end, shape_.D);
    prefetcher_.add(matrix(args_.grad_v, n, 0), begin, end, shape_.D);
    prefetcher_.spread(num_steps(shape_.Lk));
  }

  // The same for a block of a single row, whose biases and their gradients come from memory and go there: what this
  // block writes, the next one's biases, and a share of the next panel.
  void prefetch_block(int64_t key, int64_t keys, bool writes) {
    prefetcher_.clear();
    if (writes) pair_.prefetch(key, keys, prefetcher_);
    if (writes) sums_.prefetch(key, keys, prefetcher_);
    biases_.prefetch(key + keys, kBackwardKeys, prefetcher_);
    const auto add = [&](const auto& tensor, int64_t first) {
      if (first >= shape_.Lq) return;
      const int64_t rows = std::min(kLanes, shape_.Lq - first);
      prefetcher_.add(matrix(tensor, 0, first), rows * key / shape_.Lk, rows * (key + keys) / shape_.Lk, shape_.D);
    };
    add(args_.grad_q, query_);
    for (const auto* tensor : {&args_.q, &args_.grad_out, &args_.out}) add(*tensor, query_ + kLanes);
    prefetcher_.spread(num_steps(keys));
  }

  // Steps of the prefetcher while weights and grad_weights pass over so many keys.
  [[nodiscard]] static int64_t num_steps(int64_t keys) {
    return num_score_tiles<kWeighRows>(keys, kBackwardKeys) +
           num_score_tiles<kTileRows<kTileColumns>>(keys, kBackwardKeys);
  }

  void run_panel(int64_t n, int64_t panel) {
    biases_.start_panel(panel);
    query_ = panel * kLanes;
    queries_ = num_queries(panel);
    load_panel(n);
    if (biases_.hides_all()) return hidden_panel(n);
    if constexpr (kDeltaFromWeights<T>) delta_of_row();
    const bool all = part_begin_ == 0;  // later parts only add up their own grad_k and grad_v
    for (int64_t key = all ? 0 : part_begin_; key < (all ? shape_.Lk : part_end_); key += kBackwardKeys) {
      block(n, key, std::min(kBackwardKeys, shape_.Lk - key));
      if (all) grad_q_.end_block(key + kBackwardKeys);
    }
    if (!all) return;
    grad_q_.finish();
    for (int64_t lane = 0; lane < kLanes; lane += kWidth) {
      store(buffers_.factor + lane, splat(static_cast<float>(args_.scale)));
    }
    panel_to_rows(buffers_.grad_q_panel, buffers_.factor, shape_.D, matrix(args_.grad_q, n, query_), queries_);
  }

  // All keys hidden: the logits are constants, so that only values have gradients, and these only if weighed at all.
  void hidden_panel(int64_t n) {
    if (args_.fully_masked == FullyMasked::kMean) {
      constexpr int64_t kWords = kLanes / kPack<T>;
      float* words = kPack<T> == 2 ? buffers_.weight_words : buffers_.weights;
      Vec word = splat(1.0f / static_cast<float>(shape_.Lk));
      if constexpr (kPack<T> == 2) word = join_bfloat16(word, word);
      const int64_t most_keys = std::min(kBackwardKeys, part_end_ - part_begin_);
      for (int64_t i = 0; i < most_keys * kWords; i += kWidth) store(words + i, word);
      for (int64_t key = part_begin_; key < part_end_; key += kBackwardKeys) {
        sums_.add_to_grad_v(words, buffers_.grad_out_rows, key, std::min(kBackwardKeys, part_end_ - key));
      }
    } else {
      sums_.skip_grad_v();
    }
    sums_.skip_grad_k();
    if (part_begin_ != 0) return;
    std::fill_n(buffers_.grad_q_panel, shape_.D * kLanes, 0.0f);
    panel_to_rows(buffers_.grad_q_panel, buffers_.grad_q_panel, shape_.D, matrix(args_.grad_q, n, query_), queries_);
    pair_.skip_panel();
  }

  // Queries and grad_out by rows and by lanes, log-sum-exp and delta of one row n.
  void load_panel(int64_t n) {
    const auto q = matrix(args_.q, n, query_), grad_out = matrix(args_.grad_out, n, query_);
    any_masked_ = false;
    for (int64_t i = 0; i < kLanes; ++i) {
      buffers_.delta[i] = 0;
      buffers_.delta_rest[i] = 0;
      buffers_.factor[i] = 0;
      buffers_.log_sum_exp[i] = std::numeric_limits<float>::infinity();  // weights of padding: zero
      if (i >= queries_) continue;
      const float correction = *args_.lse_correction.at(b_, n, h_, query_ + i);
      buffers_.factor[i] = correction;
      buffers_.log_sum_exp[i] = *args_.log_sum_exp.at(b_, n, h_, query_ + i);
      any_masked_ |= buffers_.log_sum_exp[i] <= kFullyMaskedLogit;
      if (args_.grad_log_sum_exp.data != nullptr) {
        buffers_.delta[i] = -correction * *args_.grad_log_sum_exp.at(b_, n, h_, query_ + i);
      }
    }
    if constexpr (!kDeltaFromWeights<T>) add_delta_of_out(n);
    // Weights enter every sum next to grad_out or delta, so the correction of the log-sum-exp is applied to those.
    // Pairs of bfloat16 could not hold it, nor would their products show it.
    constexpr int kWords = kPack<T>;
    const float* correction = kWords == 1 ? buffers_.factor : nullptr;
    rows_to_panel<kWords>(q, queries_, shape_.D, buffers_.q_panel);
    rows_to_panel<kWords>(grad_out, queries_, shape_.D, buffers_.grad_out_panel);
    for (int64_t i = 0; kWords == 1 && i < shape_.D * kLanes; i += kWidth) {
      float* at = buffers_.grad_out_panel + i;
      store(at, load(at) * load(buffers_.factor + i % kLanes));
    }
    with_side(scatter_side(shape_), [&]<int Side>() {
      const int64_t width = scatter_width(shape_);
      pack_scatter_rows<kWords, Side>(q, queries_, shape_.D, nullptr, width, buffers_.q_rows);
      pack_scatter_rows<kWords, Side>(grad_out, queries_, shape_.D, correction, width, buffers_.grad_out_rows);
    });
  }

  // delta += correction * sum over d of grad_out * out
  void add_delta_of_out(int64_t n) {
    const auto out = matrix(args_.out, n, query_), grad_out = matrix(args_.grad_out, n, query_);
    for (int64_t row = 0; row < queries_; row += kWidth) {
      Vec products[kWidth] = {};
      for (int64_t i = 0; i < kWidth && row + i < queries_; ++i) {
        for (int64_t d = 0; d < shape_.D; d += kWidth) {
          const Vec a = load_row(out.data + (row + i) * out.row_stride, out.inner_stride, d, shape_.D);
          const Vec b = load_row(grad_out.data + (row + i) * grad_out.row_stride, grad_out.inner_stride, d, shape_.D);
          products[i] = fma(a, b, products[i]);
        }
      }
      float* delta = buffers_.delta + row;
      store(delta, fma(sums_of_rows(products), load(buffers_.factor + row), load(delta)));
    }
  }

  // 16 bits: the sum over all keys that later blocks subtract. Rows that fit keep their weights and products.
  void delta_of_row() {
    for (int64_t key = 0; key < shape_.Lk; key += kBackwardKeys) {
      const int64_t keys = std::min(kBackwardKeys, shape_.Lk - key);
      all_weights(key, keys, whole_row_);
      grad_weights<Then::kAddDelta>(key, keys, {});
    }
    for (int64_t i = 0; i < kLanes; i += kWidth) {
      store(buffers_.delta + i, joined(load(buffers_.delta + i), load(buffers_.delta_rest + i)));
    }
  }

  [[nodiscard]] float* weights_of(int64_t key) const { return buffers_.weights + (whole_row_ ? key * kLanes : 0); }
  [[nodiscard]] float* grad_weights_of(int64_t key) const {
    return buffers_.grad_weights + (whole_row_ ? key * kLanes : 0);
  }

  void block(int64_t n, int64_t key, int64_t keys) {
    const bool all = part_begin_ == 0;
    const PairSlab slab = all ? pair_.slab(key) : PairSlab{};
    const bool pair_by_block = all && pair_.by_block();
    if (!whole_row_) all_weights(key, keys, all);
    float *weights = weights_of(key), *grads = grad_weights_of(key);
    BlockGradients words{.weights = weights, .grads = grads, .grad_pairs = grads};
    const bool weighs_hidden = any_masked_ && biases_.has_hidden() && args_.fully_masked == FullyMasked::kMean;
    if (!kDeltaFromWeights<T> && !weighs_hidden) {
      grad_weights<Then::kFinish>(key, keys, slab);
    } else {
      if (!whole_row_) grad_weights<Then::kNothing>(key, keys, {});
      if (weighs_hidden) hold_hidden(key, keys, grads);
      if constexpr (kPack<T> == 2) {
        words = {.weights = buffers_.weight_words, .grads = buffers_.grad_words, .grad_pairs = buffers_.grad_pairs};
      }
      finish_grads<kPack<T>>(weights, grads, keys, buffers_.delta, slab, pair_by_block || wants_grads(), words);
    }
    if (pair_by_block) pair_.add_block(key, keys, grads);
    if (all && args_.grad_logits.data != nullptr) add_grad_logits(n, key, keys, grads);
    if (key >= part_begin_ && key < part_end_) {
      if (args_.grad_mask.data != nullptr) sums_.add_to_grad_mask(key, keys, grads);
      sums_.add_to_grad_v(words.weights, buffers_.grad_out_rows, key, keys);
      sums_.add_to_grad_k(words.grads, buffers_.q_rows, key, keys);
    }
    if (!all) return;
    const float* k = kPack<T> == 2 ? k_pairs_.block(key, keys) : k_.block(key, keys);
    if (PanelSum::starts_at(key))
      gather<Gather::kFirst, kPack<T>>(k, words.grad_pairs, shape_.D, keys, nullptr, buffers_.grad_q_panel);
    else
      gather<Gather::kAdd, kPack<T>>(k, words.grad_pairs, shape_.D, keys, nullptr, buffers_.grad_q_panel);
  }

  [[nodiscard]] bool wants_grads() const {
    return args_.grad_mask.data != nullptr || args_.grad_logits.data != nullptr;
  }

  // `writes`: the gradients of these logits come next.
  void all_weights(int64_t key, int64_t keys, bool writes) {
    if (is_single_row(shape_)) prefetch_block(key, keys, writes);
    const float *pair = biases_.block(key, keys), *k = k_.block(key, keys);
    const MaskRow mask = biases_.mask(key, keys);
    const Vec scale = splat(static_cast<float>(args_.scale));
    with_biases(scale, pair, mask, [&](const auto& logit) { weights(k, keys, logit, weights_of(key)); });
    if (any_masked_) set_masked_weights(keys, weights_of(key));
  }

  // to[key][64] = exp(logits - log-sum-exp)
  template <class Logit>
  void weights(const float* k, int64_t keys, Logit logit, float* to) {
    constexpr int C = kTileColumns;
    const float* const log_sum_exp = buffers_.log_sum_exp;
    for_score_tiles<kPack<T>, kWeighRows>(
        k, buffers_.q_panel, k_.row_words(), keys, prefetcher_, [](int64_t) {},
        [&]<int R>(Tile<R, C>& tile, int64_t first, int64_t lane) LONGFOLD_INLINE_LAMBDA {
          for_weights(tile, logit, first, lane, log_sum_exp, [&](int r, int c, Vec, Vec w) LONGFOLD_INLINE_LAMBDA {
            store(to + (first + r) * kLanes + lane + c * kWidth, w);
          });
        },
        [](int64_t) {});
  }

  // Fully masked rows weigh all keys the same, or not at all.
  void set_masked_weights(int64_t keys, float* weights) {
    const bool mean = args_.fully_masked == FullyMasked::kMean;
    const Vec uniform = splat(mean ? 1.0f / static_cast<float>(shape_.Lk) : 0.0f);
    for (int64_t i = 0; i < keys * kLanes; i += kWidth) {
      const Vec log_sum_exp = load(buffers_.log_sum_exp + i % kLanes);
      store(weights + i, select_at_most(log_sum_exp, splat(kFullyMaskedLogit), uniform, load(weights + i)));
    }
  }

  // A fully masked row of which some keys are hidden: these are weighed, but nothing moves their logits. grad_out . v
  // of them becomes delta, and what finish_grads makes of that is zero.
  void hold_hidden(int64_t first_key, int64_t keys, float* grads) const {
    for (int64_t key = 0; key < keys; ++key) {
      if (biases_.hides_key(first_key + key)) std::copy_n(buffers_.delta, kLanes, grads + key * kLanes);
    }
  }

  // The product grad_out . v of a block, and what is made of it at once.
  enum class Then {
    kNothing,   // stored
    kAddDelta,  // stored, and delta[64] += sum over keys of weights * that
    kFinish,    // weights * (that - delta) is stored, and added to the slab of the pair-bias gradient
  };
  template <Then What>
  void grad_weights(int64_t first_key, int64_t keys, PairSlab slab) {
    constexpr int C = kTileColumns;
    const float* weights = weights_of(first_key);
    float* to = grad_weights_of(first_key);
    Vec delta[C];
    for_score_tiles<kPack<T>, kTileRows<C>>(
        v_.block(first_key, keys), buffers_.grad_out_panel, v_.row_words(), keys, prefetcher_,
        [&](int64_t lane) LONGFOLD_INLINE_LAMBDA {
          for (int c = 0; c < C; ++c)
            delta[c] = What == Then::kAddDelta ? Vec{} : load(buffers_.delta + lane + c * kWidth);
        },
        [&]<int R>(Tile<R, C>& tile, int64_t key, int64_t lane) LONGFOLD_INLINE_LAMBDA {
#pragma GCC unroll 16
          for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
            for (int c = 0; c < C; ++c) {
              const int64_t at = (key + r) * kLanes + lane + c * kWidth;
              const Vec product = tile.acc[r][c];
              if constexpr (What == Then::kFinish) {
                const Vec ds = load(weights + at) * (product - delta[c]);
                store(to + at, ds);
                slab(key + r, lane + c * kWidth, ds);
              } else {
                store(to + at, product);
                if constexpr (What == Then::kAddDelta) delta[c] = fma(load(weights + at), product, delta[c]);
              }
            }
          }
        },
        [&](int64_t lane) LONGFOLD_INLINE_LAMBDA {
          if constexpr (What == Then::kAddDelta) {
            for (int c = 0; c < C; ++c) {
              const int64_t at = lane + c * kWidth;
              add_long(delta[c], buffers_.delta + at, buffers_.delta_rest + at);
            }
          }
        });
  }

  void add_grad_logits(int64_t n, int64_t first_key, int64_t keys, const float* grads) {
    for (int64_t key = 0; key < keys; key += kWidth) {
      const int64_t count = std::min<int64_t>(kWidth, keys - key);
      for (int64_t lane = 0; lane < queries_; lane += kWidth) {
        Vec tile[kWidth];
        for (int64_t j = 0; j < kWidth; ++j) tile[j] = j < count ? load(grads + (key + j) * kLanes + lane) : Vec{};
        transpose(tile);
        for (int64_t i = 0; i < kWidth && lane + i < queries_; ++i) {
          for (int64_t j = 0; j < count; ++j) add_grad_logit(n, query_ + lane + i, first_key + key + j, tile[i][j]);
        }
      }
    }
  }

  LONGFOLD_INLINE void add_grad_logit(int64_t n, int64_t query, int64_t key, float grad) {
    float& sum = args_.grad_logits(b_, n, h_, query, key);
    if (args_.grad_logits_rest.data == nullptr)
      sum += grad;
    else
      add_long(grad, sum, args_.grad_logits_rest(b_, n, h_, query, key));
  }

  const BackwardArgs<T>& args_;
  Shape shape_;
  bool whole_row_;
  BackwardBuffers buffers_;
  PairGradient<T> pair_;
  KeySums<T> sums_;
  BiasPanel biases_;
  PackedRows<T> k_, k_pairs_, v_;
  PanelSum grad_q_;
  Prefetcher prefetcher_;
  int64_t panels_begin_ = 0, panels_end_ = 0;  // of the item
  int64_t b_ = 0, h_ = 0, query_ = 0, queries_ = 0, part_begin_ = 0, part_end_ = 0;
  bool any_masked_ = false;
};

}  // namespace
}  // namespace longfold::kernels
