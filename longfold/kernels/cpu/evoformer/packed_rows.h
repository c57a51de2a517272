// The keys, or the values, of one row n and head, as words that the products read.
#pragma once

#include "longfold/kernels/cpu/evoformer/bias_panel.h"
#include "longfold/kernels/cpu/pack.h"
#include "longfold/kernels/tensor_view.h"

namespace longfold::kernels {
namespace {

// Packed as a whole where that is small, so that all panels share the work, else block by block.
template <class T>
class PackedRows {
 public:
  static constexpr int kWordPack = kPack<T>;

  // What products read: for scores rows of D elements, for gather rows of D words that each stand for Pack keys.
  enum class Form { kRows, kPairs };

  PackedRows(const TensorView<const T, 5>& from, const Shape& shape, Form form, int64_t block, float* buffer)
      : from_(from), shape_(shape), form_(form), buffer_(buffer), whole_(packed_keys(shape, block) == shape.Lk) {}

  // Zeros take the place of rows that `hiding`, if there is one, hides: in products their weights are zero, which
  // would not be enough where they hold NaN.
  void start_row(int64_t b, int64_t n, int64_t h, const BiasPanel* hiding = nullptr) {
    matrix_ = {from_.at(b, n, 0, h), from_.strides[2], from_.strides[4]};
    hiding_ = hiding != nullptr && hiding->has_hidden() ? hiding : nullptr;
    if (whole_) pack(matrix_, 0, shape_.Lk);
  }

  // Words from `key`, the first of a block, on.
  const float* block(int64_t key, int64_t keys) const {
    if (whole_) return buffer_ + (form_ == Form::kRows ? key * row_words() : key / kWordPack * shape_.D);
    Matrix<const T> part = matrix_;
    part.data += key * part.row_stride;
    pack(part, key, keys);
    return buffer_;
  }

  [[nodiscard]] int64_t row_words() const { return divide_up(shape_.D, kWordPack); }

 private:
  void pack(Matrix<const T> from, int64_t first_key, int64_t keys) const {
    if (form_ == Form::kRows)
      pack_rows<kWordPack>(from, keys, shape_.D, buffer_);
    else
      pack_row_pairs<kWordPack>(from, keys, shape_.D, buffer_);
    if (hiding_ == nullptr) return;
    for (int64_t key = 0; key < keys; ++key) {
      if (!hiding_->hides_key(first_key + key)) continue;
      if (form_ == Form::kRows)
        std::fill_n(buffer_ + key * row_words(), row_words(), 0.0f);
      else
        clear_row_of_pairs<kWordPack>(key, shape_.D, buffer_);
    }
  }

  const TensorView<const T, 5>& from_;
  Shape shape_;
  Form form_;
  float* buffer_;
  bool whole_;
  Matrix<const T> matrix_{};
  const BiasPanel* hiding_ = nullptr;
};

}  // namespace
}  // namespace longfold::kernels
