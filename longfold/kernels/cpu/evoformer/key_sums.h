// What a block of keys sums over all queries of a row n: grad_k, grad_v, and the gradient of a mask bias. Queries come
// in spans of panels (num_spans): each span is summed by itself, then the spans in their order.
//
// Rows among others, or whole heads, add up spans in scratch, the rows at once side by side, for the keys of one part.
// Where groups of spans are items, their sums stand in the workspace until all are there.
#pragma once

#include "longfold/kernels/cpu/evoformer/buffers.h"
#include "longfold/kernels/cpu/long_sum.h"
#include "longfold/kernels/cpu/products.h"
#include "longfold/kernels/cpu/scatter_rows.h"
#include "longfold/kernels/evoformer_attention.h"

namespace longfold::kernels {
namespace {

// Adds a span's sum, which has a rest itself, to those of the spans before.
LONGFOLD_INLINE void add_mask_span(Vec span, Vec span_rest, Vec& sum, Vec& rest) {
  Vec lost;
  sum = two_sum(sum, span, lost);
  rest += lost + span_rest;
}

// Puts keys [key, key + keys) of row n where the caller wants them.
template <class T>
void write_key_sums(const BackwardArgs<T>& args, const Shape& shape, int64_t b, int64_t n, int64_t h, int64_t key,
                    int64_t keys, const SpanSums& sums) {
  const auto write = [&](const TensorView<T, 5>& to, const float* from, float factor) {
    const Matrix<T> matrix{to.at(b, n, key, h), to.strides[2], to.strides[4]};
    unpack_sums(from, scatter_side(shape), scatter_width(shape), factor, matrix, keys, shape.D);
  };
  write(args.grad_k, sums.grad_k, static_cast<float>(args.scale));
  write(args.grad_v, sums.grad_v, 1.0f);
  if (args.grad_mask.data == nullptr) return;
  for (int64_t i = 0; i < keys; ++i) args.grad_mask(b, n, h, key + i) = joined(sums.mask[i], sums.mask_rest[i]);
}

template <class T>
class KeySums {
 public:
  KeySums(const BackwardArgs<T>& args, const Shape& shape, const BackwardBuffers& buffers, float* workspace)
      : args_(args),
        shape_(shape),
        buffers_(buffers),
        spans_are_items_(cut_backward(shape, args.grad_pair.data != nullptr).span_groups > 1),
        is_long_here_(has_long_columns(shape) && !spans_are_items_),
        workspace_(workspace),
        keys_(spans_are_items_ ? shape.Lk : grad_kv_keys(shape)),
        width_(scatter_width(shape)) {}

  // Keys whose sums are held at a time.
  [[nodiscard]] int64_t keys_at_once() const { return keys_; }

  // So many rows of one head, keys [begin, end).
  void start(int64_t b, int64_t h, int64_t num_rows, int64_t begin, int64_t end) {
    head_ = b * shape_.H + h;
    begin_ = begin;
    end_ = end;
    if (!is_long_here_) return;
    for (float* sums : {buffers_.sums.grad_k, buffers_.sums.grad_v, buffers_.grad_k_rest, buffers_.grad_v_rest}) {
      clear(sums, num_rows * keys_ * width_);
    }
    for (float* sums : {buffers_.sums.mask, buffers_.sums.mask_rest}) {
      clear(sums, num_rows * round_up(keys_, kWidestVector));
    }
  }

  // A panel of one of the rows at once. The first of a span overwrites what is there.
  void start_panel(int64_t row, int64_t panel) {
    row_ = row;
    span_ = span_of_panel(shape_, panel);
    if (spans_are_items_)
      to_ = SpanSums::of_item(shape_, head_, span_, workspace_);
    else
      to_ = (is_long_here_ || span_ == 0 ? buffers_.sums : buffers_.span).from(shape_, keys_, row, 0);
    adds_ = is_long_here_ || panel != first_panel_of_span(shape_, span_);
    if (adds_) return;
    for (float* of_mask : {to_.mask, to_.mask_rest}) clear(of_mask, round_up(keys_, kWidestVector));
  }
  void end_panel(int64_t panel) {
    if (spans_are_items_ || is_long_here_ || span_ == 0) return;
    if (panel + 1 == first_panel_of_span(shape_, span_ + 1)) add_span();
  }
  // Instead of add_to_grad_v and add_to_grad_k: the panel has none.
  void skip_grad_v() const {
    if (!adds_) clear(to_.grad_v, keys_ * width_);
  }
  void skip_grad_k() const {
    if (!adds_) clear(to_.grad_k, keys_ * width_);
  }

  // Asks for where a block's sums will be written.
  void prefetch(int64_t key, int64_t keys, Prefetcher& prefetcher) const {
    if (!spans_are_items_ || adds_) return;
    for (float* sums : {to_.grad_k, to_.grad_v}) {
      prefetcher.add(Matrix<float>{sums + (key - begin_) * width_, width_, 1}, 0, keys, width_);
    }
  }

  // Words of weights and of rows of grad_out; of logit gradients and of rows of q.
  void add_to_grad_v(const float* words, const float* rows, int64_t key, int64_t keys) {
    scatter_block(words, rows, key, keys, to_.grad_v, buffers_.grad_v_rest);
  }
  void add_to_grad_k(const float* words, const float* rows, int64_t key, int64_t keys) {
    scatter_block(words, rows, key, keys, to_.grad_k, buffers_.grad_k_rest);
  }

  void add_to_grad_mask(int64_t first_key, int64_t keys, const float* grads) {
    for (int64_t key = 0; key < keys; key += kWidth) {
      const int64_t count = std::min<int64_t>(kWidth, keys - key);
      Vec rows[kWidth] = {};
      for (int64_t j = 0; j < count; ++j) {
        for (int64_t lane = 0; lane < kLanes; lane += kWidth) rows[j] += load(grads + (key + j) * kLanes + lane);
      }
      const int64_t at = first_key - begin_ + key;
      add_long(sums_of_rows(rows), to_.mask + at, to_.mask_rest + at);
    }
  }

  // Of rows [begin, end), unless spans are items: then finish_key_sums does.
  void write(int64_t b, int64_t h, int64_t begin, int64_t end) {
    if (spans_are_items_) return;
    if (is_long_here_) {
      for (int64_t i = 0; i < (end - begin) * keys_ * width_; i += kWidth) {
        store(buffers_.sums.grad_k + i, joined(load(buffers_.sums.grad_k + i), load(buffers_.grad_k_rest + i)));
        store(buffers_.sums.grad_v + i, joined(load(buffers_.sums.grad_v + i), load(buffers_.grad_v_rest + i)));
      }
    }
    for (int64_t n = begin; n < end; ++n) {
      write_key_sums(args_, shape_, b, n, h, begin_, end_ - begin_, buffers_.sums.from(shape_, keys_, n - begin, 0));
    }
  }

 private:
  static void clear(float* sums, int64_t count) {
    for (int64_t i = 0; i < count; i += kWidth) store(sums + i, Vec{});
  }

  // A block of keys of sums[keys][width].
  void scatter_block(const float* words, const float* rows, int64_t key, int64_t keys, float* sums, float* rests) {
    constexpr int64_t kWords = kLanes / kPack<T>;
    const int64_t at = (key - begin_) * width_;
    with_side(scatter_side(shape_), [&]<int Side>() {
      if (is_long_here_) {
        float* rest = rests + row_ * keys_ * width_ + at;
        scatter<kPack<T>, Side, true>(words, kWords, rows, width_, keys, true, sums + at, rest);
      } else {
        scatter<kPack<T>, Side>(words, kWords, rows, width_, keys, adds_, sums + at);
      }
    });
  }

  // The span's sums, of the current row, to those of the spans before.
  void add_span() {
    const SpanSums sums = buffers_.sums.from(shape_, keys_, row_, 0);
    for (float* SpanSums::* which : {&SpanSums::grad_k, &SpanSums::grad_v}) {
      float* to = sums.*which;
      for (int64_t i = 0; i < keys_ * width_; i += kWidth) store(to + i, load(to + i) + load(to_.*which + i));
    }
    for (int64_t i = 0; i < keys_; i += kWidth) {
      Vec sum = load(sums.mask + i), rest = load(sums.mask_rest + i);
      add_mask_span(load(to_.mask + i), load(to_.mask_rest + i), sum, rest);
      store(sums.mask + i, sum);
      store(sums.mask_rest + i, rest);
    }
  }

  const BackwardArgs<T>& args_;
  Shape shape_;
  BackwardBuffers buffers_;
  bool spans_are_items_;
  bool is_long_here_;  // long sums, to which each panel is added
  float* workspace_;
  int64_t keys_;
  int64_t width_;
  int64_t head_ = 0, begin_ = 0, end_ = 0;  // keys of the part
  int64_t row_ = 0, span_ = 0;              // at work
  SpanSums to_{};                           // where these are summed
  bool adds_ = false;                       // to what is there
};

}  // namespace
}  // namespace longfold::kernels
