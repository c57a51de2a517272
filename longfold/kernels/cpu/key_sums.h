// What a block of keys sums over all queries of a row n: grad_k, grad_v, and the gradient of a mask bias. The sums of
// the rows at once stand side by side in scratch, for the keys of one part.
#pragma once

#include "longfold/kernels/cpu/buffers.h"
#include "longfold/kernels/cpu/long_sum.h"
#include "longfold/kernels/cpu/products.h"
#include "longfold/kernels/cpu/scatter_rows.h"
#include "longfold/kernels/evoformer_attention.h"

namespace longfold::kernels {
namespace {

template <class T>
class KeySums {
 public:
  KeySums(const BackwardArgs<T>& args, const Shape& shape, const BackwardBuffers& buffers)
      : args_(args),
        shape_(shape),
        buffers_(buffers),
        width_(scatter_width(shape)),
        mask_row_(round_up(grad_kv_keys(shape), kWidestVector)) {}

  // Clears the sums of so many rows, of keys [begin, end).
  void start(int64_t num_rows, int64_t begin, int64_t end) {
    begin_ = begin;
    end_ = end;
    const auto clear = [](float* sums, int64_t count) {
      for (int64_t i = 0; i < count; i += kWidth) store(sums + i, Vec{});
    };
    for (float* sums : {buffers_.grad_k, buffers_.grad_v}) clear(sums, num_rows * row());
    for (float* sums : {buffers_.mask_sum, buffers_.mask_rest}) clear(sums, num_rows * mask_row_);
    if (!has_long_columns(shape_)) return;
    for (float* rests : {buffers_.grad_k_rest, buffers_.grad_v_rest}) clear(rests, num_rows * row());
  }

  // Which of the rows at once comes next.
  void start_row(int64_t index) { at_ = index; }

  // Words of weights and of rows of grad_out; of logit gradients and of rows of q.
  void add_to_grad_v(const float* words, const float* rows, int64_t key, int64_t keys) {
    scatter_block(words, rows, key, keys, buffers_.grad_v, buffers_.grad_v_rest);
  }
  void add_to_grad_k(const float* words, const float* rows, int64_t key, int64_t keys) {
    scatter_block(words, rows, key, keys, buffers_.grad_k, buffers_.grad_k_rest);
  }

  void add_to_grad_mask(int64_t first_key, int64_t keys, const float* grads) {
    const int64_t at = at_ * mask_row_ + first_key - begin_;
    for (int64_t key = 0; key < keys; key += kWidth) {
      const int64_t count = std::min<int64_t>(kWidth, keys - key);
      Vec rows[kWidth] = {};
      for (int64_t j = 0; j < count; ++j) {
        for (int64_t lane = 0; lane < kLanes; lane += kWidth) rows[j] += load(grads + (key + j) * kLanes + lane);
      }
      add_long(sums_of_rows(rows), buffers_.mask_sum + at + key, buffers_.mask_rest + at + key);
    }
  }

  // To where the caller wants them: rows [begin, end) of one head.
  void write(int64_t b, int64_t h, int64_t begin, int64_t end) {
    if (has_long_columns(shape_)) {
      join(buffers_.grad_k, buffers_.grad_k_rest, (end - begin) * row());
      join(buffers_.grad_v, buffers_.grad_v_rest, (end - begin) * row());
    }
    const auto write_row = [&](const TensorView<T, 5>& to, int64_t n, const float* sums, float factor) {
      const Matrix<T> matrix{to.at(b, n, begin_, h), to.strides[2], to.strides[4]};
      unpack_sums(sums + (n - begin) * row(), scatter_side(shape_), width_, factor, matrix, end_ - begin_, shape_.D);
    };
    for (int64_t n = begin; n < end; ++n) {
      write_row(args_.grad_k, n, buffers_.grad_k, static_cast<float>(args_.scale));
      write_row(args_.grad_v, n, buffers_.grad_v, 1.0f);
    }
    if (args_.grad_mask.data == nullptr) return;
    for (int64_t n = begin; n < end; ++n) {
      const int64_t at = (n - begin) * mask_row_;
      for (int64_t key = 0; key < end_ - begin_; ++key) {
        args_.grad_mask(b, n, h, begin_ + key) = joined(buffers_.mask_sum[at + key], buffers_.mask_rest[at + key]);
      }
    }
  }

 private:
  [[nodiscard]] int64_t row() const { return grad_kv_keys(shape_) * width_; }

  static void join(float* sums, const float* rests, int64_t count) {
    for (int64_t i = 0; i < count; i += kWidth) store(sums + i, joined(load(sums + i), load(rests + i)));
  }

  // Adds a block of keys to sums[rows at once][keys of a part][width].
  void scatter_block(const float* words, const float* rows, int64_t key, int64_t keys, float* sums, float* rests) {
    constexpr int64_t kWords = kLanes / kPack<T>;
    const int64_t at = at_ * row() + (key - begin_) * width_;
    with_side(shape_, [&]<int Side>() {
      if (has_long_columns(shape_))
        scatter<kPack<T>, Side, true>(words, kWords, rows, width_, keys, sums + at, rests + at);
      else
        scatter<kPack<T>, Side>(words, kWords, rows, width_, keys, sums + at);
    });
  }

  const BackwardArgs<T>& args_;
  Shape shape_;
  BackwardBuffers buffers_;
  int64_t width_;
  int64_t mask_row_;
  int64_t begin_ = 0, end_ = 0;  // keys of the part
  int64_t at_ = 0;               // which of the rows at once is worked on
};

}  // namespace
}  // namespace longfold::kernels
