// Backward pass of one item: one head, a group of rows n. The weights are recomputed from the log-sum-exp, and each
// block of keys takes five products: scores, grad_out . v, and the sums of grad_v, grad_k and grad_q. Bias slabs of a
// group of panels, and slabs of the pair-bias gradient, stay in the cache while all rows of the item pass. In 16 bits a
// row that is longer than a block takes its first two products twice, for delta. See docs/evoformer.md.
#pragma once

#include <limits>

#include "longfold/kernels/cpu/bias_panel.h"
#include "longfold/kernels/cpu/buffers.h"
#include "longfold/kernels/cpu/products.h"
#include "longfold/kernels/evoformer_attention.h"

namespace longfold::kernels {
namespace {

template <class T>
class BackwardItem {
 public:
  BackwardItem(const BackwardArgs<T>& args, const Shape& shape, float* scratch, float* workspace)
      : args_(args),
        shape_(shape),
        dim_(padded_head_dim(shape)),
        workspace_(args.grad_pair.data != nullptr ? workspace : nullptr),
        block_(backward_keys(shape, kDeltaFromWeights<T>)),
        buffers_(shape, block_, scratch),
        biases_(args.biases, shape, buffers_.slab, buffers_.row_slab, buffers_.mask),
        k_(args.k, shape, block_, buffers_.k_rows),
        v_(args.v, shape, block_, buffers_.v_rows) {}

  void run(int64_t item) {
    const int64_t groups = backward_row_groups(shape_, args_.grad_pair.data != nullptr);
    const int64_t group = item % groups;
    h_ = item / groups % shape_.H;
    b_ = item / groups / shape_.H;
    const int64_t begin = shape_.N * group / groups, end = shape_.N * (group + 1) / groups;
    const int64_t at_once = backward_rows_at_once(shape_);
    for (int64_t n = begin; n < end; n += at_once) rows(item, n, std::min(n + at_once, end), n == begin);
  }

 private:
  void rows(int64_t item, int64_t begin, int64_t end, bool first) {
    const int64_t kv = shape_.Lk * dim_;  // floats of grad_k of one row n
    for (int64_t i = 0; i < (end - begin) * kv; i += kWidth) {
      store(buffers_.grad_k + i, Vec{});
      store(buffers_.grad_v + i, Vec{});
    }
    const int64_t groups = backward_panel_groups(shape_), panels = num_panels(shape_);
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t first_panel = panels * group / groups, last_panel = panels * (group + 1) / groups;
      biases_.start_group(b_, h_, first_panel, last_panel);
      if (workspace_ != nullptr && first) {
        float* slab = workspace_ + partial_offset(shape_, item, first_panel);
        const float* slab_end =
            workspace_ + partial_offset(shape_, item, last_panel - 1) + panel_lanes(shape_, last_panel - 1) * shape_.Lk;
        for (; slab < slab_end; slab += kWidth) store(slab, Vec{});
      }
      for (int64_t n = begin; n < end; ++n) {
        grad_k_ = buffers_.grad_k + (n - begin) * kv;
        grad_v_ = buffers_.grad_v + (n - begin) * kv;
        biases_.start_row(n);
        k_.start_row(b_, n, h_);
        v_.start_row(b_, n, h_);
        for (int64_t panel = first_panel; panel < last_panel; ++panel) {
          if (workspace_ != nullptr) grad_pair_ = workspace_ + partial_offset(shape_, item, panel);
          run_panel(n, panel);
        }
      }
    }
    for (int64_t n = begin; n < end; ++n) {
      const Matrix<T> k{args_.grad_k.at(b_, n, 0, h_), args_.grad_k.strides[2], args_.grad_k.strides[4]};
      const Matrix<T> v{args_.grad_v.at(b_, n, 0, h_), args_.grad_v.strides[2], args_.grad_v.strides[4]};
      unpack_rows(buffers_.grad_k + (n - begin) * kv, dim_, k, shape_.Lk, shape_.D);
      unpack_rows(buffers_.grad_v + (n - begin) * kv, dim_, v, shape_.Lk, shape_.D);
    }
  }

  void run_panel(int64_t n, int64_t panel) {
    biases_.start_panel(panel);
    query_ = panel * kLanes;
    queries_ = std::min(kLanes, shape_.Lq - query_);
    lanes_ = panel_lanes(shape_, panel);
    load_panel(n);
    if (kDeltaFromWeights<T> && block_ < shape_.Lk) delta_of_row();
    for (int64_t key = 0; key < shape_.Lk; key += block_) block(n, key, std::min(block_, shape_.Lk - key));
    transpose_panel(buffers_.grad_q_panel, kLanes, dim_, kLanes, buffers_.q_rows, dim_);
    const auto scale = static_cast<float>(args_.scale);
    for (int64_t i = 0; i < kLanes * dim_; i += kWidth) store(buffers_.q_rows + i, load(buffers_.q_rows + i) * scale);
    const Matrix<T> grad_q{args_.grad_q.at(b_, n, query_, h_), args_.grad_q.strides[2], args_.grad_q.strides[4]};
    unpack_rows(buffers_.q_rows, dim_, grad_q, queries_, shape_.D);
  }

  // Queries and grad_out by rows and by lanes, log-sum-exp and delta of one row n.
  void load_panel(int64_t n) {
    const Matrix<const T> out{args_.out.at(b_, n, query_, h_), args_.out.strides[2], args_.out.strides[4]};
    const Matrix<const T> grad_out{args_.grad_out.at(b_, n, query_, h_), args_.grad_out.strides[2],
                                   args_.grad_out.strides[4]};
    const Matrix<const T> q{args_.q.at(b_, n, query_, h_), args_.q.strides[2], args_.q.strides[4]};
    // Weights enter every sum next to grad_out or delta, so the correction of the log-sum-exp is applied to those.
    for (int64_t i = 0; i < queries_; ++i) {
      const Matrix<const T> row{grad_out.data + i * grad_out.row_stride, grad_out.row_stride, grad_out.inner_stride};
      const float correction = *args_.lse_correction.at(b_, n, h_, query_ + i);
      pack_rows(row, 1, shape_.D, correction, buffers_.grad_out_rows + i * dim_, 1, dim_);
    }
    for (int64_t i = queries_ * dim_; i < kLanes * dim_; i += kWidth) store(buffers_.grad_out_rows + i, Vec{});
    transpose_panel(buffers_.grad_out_rows, dim_, kLanes, dim_, buffers_.grad_out_panel, kLanes);
    pack_rows(out, queries_, shape_.D, 1.0f, buffers_.q_rows, kLanes, dim_);
    any_masked_ = false;
    for (int64_t i = 0; i < kLanes; ++i) {
      Vec products{};
      for (int64_t d = 0; d < dim_; d += kWidth) {
        products = fma(load(buffers_.grad_out_rows + i * dim_ + d), load(buffers_.q_rows + i * dim_ + d), products);
      }
      float delta = kDeltaFromWeights<T> ? 0.0f : sum(products),
            log_sum_exp = std::numeric_limits<float>::infinity();  // weights of padding: zero
      if (i < queries_) {
        log_sum_exp = *args_.log_sum_exp.at(b_, n, h_, query_ + i);
        if (args_.grad_log_sum_exp.data != nullptr) {
          delta -= *args_.lse_correction.at(b_, n, h_, query_ + i) * *args_.grad_log_sum_exp.at(b_, n, h_, query_ + i);
        }
      }
      any_masked_ |= log_sum_exp <= kFullyMaskedLogit;
      buffers_.delta[i] = delta;
      buffers_.log_sum_exp[i] = log_sum_exp;
    }
    pack_rows(q, queries_, shape_.D, 1.0f, buffers_.q_rows, kLanes, dim_);
    transpose_panel(buffers_.q_rows, dim_, kLanes, dim_, buffers_.q_panel, kLanes);
    const auto scale = static_cast<float>(args_.scale);
    for (int64_t i = 0; i < kLanes * dim_; i += kWidth) store(buffers_.q_rows + i, load(buffers_.q_rows + i) * scale);
  }

  // The sum over all keys that later blocks subtract, for rows that are longer than a block.
  void delta_of_row() {
    for (int64_t key = 0; key < shape_.Lk; key += block_) {
      const int64_t keys = std::min(block_, shape_.Lk - key);
      all_weights(k_.block(key, keys), keys, biases_.block(key, keys), biases_.mask(key));
      add_delta(v_.block(key, keys), keys);
    }
  }

  void block(int64_t n, int64_t key, int64_t keys) {
    const float* pair = biases_.block(key, keys);
    const float* mask = biases_.mask(key);
    const KeyRows k_rows = k_.block(key, keys);
    const KeyRows v_rows = v_.block(key, keys);
    float* grad_pair = grad_pair_ == nullptr ? nullptr : grad_pair_ + key * lanes_;
    all_weights(k_rows, keys, pair, mask);
    if (kDeltaFromWeights<T> && block_ == shape_.Lk) {
      add_delta(v_rows, keys);
      subtract_delta(keys, grad_pair);
    } else {
      grad_logits(v_rows, keys, grad_pair);
    }
    if (args_.grad_mask.data != nullptr) add_grad_mask(n, key, keys);
    scatter(buffers_.weights, buffers_.grad_out_rows, dim_, keys, grad_v_ + key * dim_);
    scatter(buffers_.grad_logits, buffers_.q_rows, dim_, keys, grad_k_ + key * dim_);
    const float* ds = buffers_.grad_logits;
    if (key == 0)
      gather<Gather::kFirst>(k_rows, ds, shape_.D, keys, nullptr, buffers_.grad_q_panel);
    else
      gather<Gather::kAdd>(k_rows, ds, shape_.D, keys, nullptr, buffers_.grad_q_panel);
  }

  void all_weights(KeyRows k, int64_t keys, const float* pair, const float* mask) {
    with_biases(pair, mask, [&]<bool HasPair, bool HasMask>() { weights<HasPair, HasMask>(k, keys, pair, mask); });
    if (any_masked_) set_masked_weights(keys);
  }

  // weights[key][64] = exp(logits - log-sum-exp)
  template <bool HasPair, bool HasMask>
  void weights(KeyRows k, int64_t keys, const float* pair, const float* mask) {
    constexpr int C = kTileColumns;
    const Vec scale = splat(static_cast<float>(args_.scale));
    for_score_tiles(
        k, buffers_.q_panel, shape_.D, keys, [](int64_t) {},
        [&]<int R>(Tile<R, C>& tile, int64_t key, int64_t lane) LONGFOLD_INLINE_LAMBDA {
#pragma GCC unroll 16
          for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
            for (int c = 0; c < C; ++c) {
              const Vec s = biased<HasPair, HasMask>(tile, r, c, scale, pair, mask, key, lane);
              const Vec w = exp_difference(s, load(buffers_.log_sum_exp + lane + c * kWidth));
              store(buffers_.weights + (key + r) * kLanes + lane + c * kWidth, w);
            }
          }
        },
        [](int64_t) {});
  }

  // Fully masked rows weigh all keys the same, or not at all.
  void set_masked_weights(int64_t keys) {
    const bool mean = args_.fully_masked == FullyMasked::kMean;
    const Vec uniform = splat(mean ? 1.0f / static_cast<float>(shape_.Lk) : 0.0f);
    for (int64_t i = 0; i < keys * kLanes; i += kWidth) {
      const Vec log_sum_exp = load(buffers_.log_sum_exp + i % kLanes);
      float* at = buffers_.weights + i;
      store(at, select_at_most(log_sum_exp, splat(kFullyMaskedLogit), uniform, load(at)));
    }
  }

  // grad_logits[key][64] = weights * (grad_out . v - delta), added to the slab of the pair-bias gradient.
  void grad_logits(KeyRows v, int64_t keys, float* grad_pair) {
    constexpr int C = kTileColumns;
    for_score_tiles(
        v, buffers_.grad_out_panel, shape_.D, keys, [](int64_t) {},
        [&]<int R>(Tile<R, C>& tile, int64_t key, int64_t lane) LONGFOLD_INLINE_LAMBDA {
#pragma GCC unroll 16
          for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
            for (int c = 0; c < C; ++c) {
              const int64_t at = (key + r) * kLanes + lane + c * kWidth;
              const Vec ds = load(buffers_.weights + at) * (tile.acc[r][c] - load(buffers_.delta + lane + c * kWidth));
              store(buffers_.grad_logits + at, ds);
              if (grad_pair != nullptr) add_grad_pair(grad_pair, key + r, lane + c * kWidth, ds);
            }
          }
        },
        [](int64_t) {});
  }

  // grad_logits[key][64] = grad_out . v, until subtract_delta; delta[64] += sum over keys of weights * that.
  void add_delta(KeyRows v, int64_t keys) {
    constexpr int C = kTileColumns;
    Vec total[C];
    for_score_tiles(
        v, buffers_.grad_out_panel, shape_.D, keys,
        [&](int64_t lane) LONGFOLD_INLINE_LAMBDA {
          for (int c = 0; c < C; ++c) total[c] = load(buffers_.delta + lane + c * kWidth);
        },
        [&]<int R>(Tile<R, C>& tile, int64_t key, int64_t lane) LONGFOLD_INLINE_LAMBDA {
#pragma GCC unroll 16
          for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
            for (int c = 0; c < C; ++c) {
              const int64_t at = (key + r) * kLanes + lane + c * kWidth;
              store(buffers_.grad_logits + at, tile.acc[r][c]);
              total[c] = fma(load(buffers_.weights + at), tile.acc[r][c], total[c]);
            }
          }
        },
        [&](int64_t lane) LONGFOLD_INLINE_LAMBDA {
          for (int c = 0; c < C; ++c) store(buffers_.delta + lane + c * kWidth, total[c]);
        });
  }

  void subtract_delta(int64_t keys, float* grad_pair) {
    for (int64_t i = 0; i < keys * kLanes; i += kWidth) {
      float* at = buffers_.grad_logits + i;
      store(at, load(buffers_.weights + i) * (load(at) - load(buffers_.delta + i % kLanes)));
      if (grad_pair != nullptr) add_grad_pair(grad_pair, i / kLanes, i % kLanes, load(at));
    }
  }

  LONGFOLD_INLINE void add_grad_pair(float* slab, int64_t key, int64_t lane, Vec ds) const {
    if (lane >= lanes_) return;  // the last panel keeps only lanes that hold queries
    float* to = slab + key * lanes_ + lane;
    store(to, load(to) + ds);
  }

  void add_grad_mask(int64_t n, int64_t key, int64_t keys) {
    for (int64_t j = 0; j < keys; ++j) {
      Vec total{};
      for (int64_t lane = 0; lane < kLanes; lane += kWidth) total += load(buffers_.grad_logits + j * kLanes + lane);
      float& to = *args_.grad_mask.at(b_, n, h_, key + j);
      to = query_ == 0 ? sum(total) : to + sum(total);
    }
  }

  const BackwardArgs<T>& args_;
  Shape shape_;
  int64_t dim_;
  float* workspace_;
  int64_t block_;
  BackwardBuffers buffers_;
  BiasPanel biases_;
  PackedRows<T> k_, v_;
  int64_t b_ = 0, h_ = 0, query_ = 0, queries_ = 0, lanes_ = 0;
  bool any_masked_ = false;
  float* grad_pair_ = nullptr;
  float* grad_k_ = nullptr;
  float* grad_v_ = nullptr;
};

// One (b, h, panel): the partial copies of the pair-bias gradient, summed in order and turned back to [query][key].
template <class T>
void finish_grad_pair(const BackwardArgs<T>& args, const Shape& shape, int64_t item, float* workspace) {
  const int64_t panel = item % num_panels(shape);
  const int64_t head = item / num_panels(shape);  // b * H + h
  const int64_t groups = backward_row_groups(shape, true);
  const int64_t lanes = panel_lanes(shape, panel);
  float* total = workspace + partial_offset(shape, head * groups, panel);
  for (int64_t group = 1; group < groups; ++group) {
    const float* partial = workspace + partial_offset(shape, head * groups + group, panel);
    for (int64_t i = 0; i < shape.Lk * lanes; i += kWidth) store(total + i, load(total + i) + load(partial + i));
  }
  const int64_t query = panel * kLanes;
  const int64_t queries = std::min(kLanes, shape.Lq - query);
  const auto [b, h] = std::pair(head / shape.H, head % shape.H);
  for (int64_t key = 0; key < shape.Lk; key += kWidth) {
    const int64_t keys = std::min<int64_t>(kWidth, shape.Lk - key);
    for (int64_t lane = 0; lane < queries; lane += kWidth) {
      Vec tile[kWidth];
      for (int64_t j = 0; j < kWidth; ++j) tile[j] = j < keys ? load(total + (key + j) * lanes + lane) : Vec{};
      transpose(tile);
      for (int64_t i = 0; i < kWidth && lane + i < queries; ++i) {
        float* to = args.grad_pair.at(b, h, query + lane + i, key);
        for (int64_t j = 0; j < keys; ++j) to[j * args.grad_pair.strides[3]] = tile[i][j];
      }
    }
  }
}

}  // namespace
}  // namespace longfold::kernels
