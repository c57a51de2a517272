// A tensor of any strides, in memory whose other elements are known and must stay as they are.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <span>

#include "longfold/kernels/tensor_view.h"
#include "tests/cases/evoformer_cases.h"
#include "tests/kernels/numbers.h"

namespace longfold::kernels {

// What surrounds the elements: NaN shows whatever is read, small numbers show whatever is added to.
struct Surroundings {
  double filler = std::nan("");
  int64_t margin = 0;  // elements before and behind
};

// `order` has the dims from the slowest to the fastest; the fastest is one of `stretch` in its memory. Dims in `shared`
// have stride 0.
template <size_t Rank>
struct Placement {
  std::array<size_t, Rank> order;
  int64_t stretch = 1;
  std::array<bool, Rank> shared{};
};

template <class T, size_t Rank>
class PlacedTensor {
 public:
  PlacedTensor(const std::array<int64_t, Rank>& sizes, const Placement<Rank>& placement, Surroundings surroundings)
      : sizes_(sizes), margin_(surroundings.margin), filler_(from_double<T>(surroundings.filler)) {
    int64_t stride = 1;
    for (size_t i = Rank; i-- > 0;) {
      const size_t dim = placement.order[i];
      strides_[dim] = placement.shared[dim] ? 0 : stride;
      if (!placement.shared[dim]) stride *= sizes[dim] * (i + 1 == Rank ? placement.stretch : 1);
    }
    offsets_.push_back(margin_);
    for (size_t dim = 0; dim < Rank; ++dim) {
      std::vector<int64_t> longer;
      longer.reserve(offsets_.size() * static_cast<size_t>(sizes[dim]));
      for (const int64_t offset : offsets_) {
        for (int64_t i = 0; i < sizes[dim]; ++i) longer.push_back(offset + i * strides_[dim]);
      }
      offsets_ = std::move(longer);
    }
    const int64_t end = offsets_.empty() ? margin_ : *std::max_element(offsets_.begin(), offsets_.end()) + 1;
    elements_.assign(static_cast<size_t>(end + margin_), filler_);
  }

  // In logical order; of elements that share memory the last one counts.
  void write(const Numbers& numbers) {
    for (size_t i = 0; i < offsets_.size(); ++i) at(i) = from_double<T>(numbers[i]);
  }
  void fill(double value) { write(Numbers(offsets_.size(), value)); }
  [[nodiscard]] Numbers read() const {
    Numbers numbers;
    numbers.reserve(offsets_.size());
    for (const int64_t offset : offsets_) numbers.push_back(as_double(elements_[static_cast<size_t>(offset)]));
    return numbers;
  }

  [[nodiscard]] TensorView<T, int{Rank}> view() { return {elements_.data() + margin_, sizes_, strides_}; }
  [[nodiscard]] TensorView<const T, int{Rank}> const_view() const {
    return {elements_.data() + margin_, sizes_, strides_};
  }
  [[nodiscard]] BiasView bias_view() const {
    static_assert(Rank == 5, "biases are [B, N, H, Lq, Lk]");
    BiasView bias{elements_.data() + margin_, dtype_of<T>(), strides_};
    for (size_t dim = 0; dim < 5; ++dim) {
      if (sizes_[dim] == 1) bias.strides[dim] = 0;
    }
    return bias;
  }

  // All of it, surroundings and all.
  [[nodiscard]] std::span<std::byte> memory() { return std::as_writable_bytes(std::span(elements_)); }

  // Bit by bit, since the filler may be NaN.
  [[nodiscard]] bool surroundings_untouched() const {
    std::vector<bool> mine(elements_.size(), false);
    for (const int64_t offset : offsets_) mine[static_cast<size_t>(offset)] = true;
    for (size_t i = 0; i < elements_.size(); ++i) {
      if (!mine[i] && std::memcmp(&elements_[i], &filler_, sizeof(T)) != 0) return false;
    }
    return true;
  }

 private:
  T& at(size_t i) { return elements_[static_cast<size_t>(offsets_[i])]; }

  std::array<int64_t, Rank> sizes_;
  std::array<int64_t, Rank> strides_{};
  int64_t margin_;
  T filler_;
  std::vector<int64_t> offsets_;  // of every element, in logical order
  std::vector<T> elements_;
};

// q, k, v, out and their gradients: [B, N, L, H, D].
inline Placement<5> placement_of_rows(cases::Layout layout) {
  switch (layout) {
    case cases::Layout::kLengthFirst:
      return {{0, 2, 1, 3, 4}};
    case cases::Layout::kHeadsFirst:
      return {{0, 1, 3, 2, 4}};
    case cases::Layout::kWider:
      return {{0, 1, 2, 3, 4}, 3};
    case cases::Layout::kInnerStride:
      return {{0, 1, 4, 3, 2}, 2};
    default:
      return {{0, 1, 2, 3, 4}};
  }
}

// Biases: [B, N, H, Lq, Lk].
inline Placement<5> placement_of_bias(cases::Layout layout) {
  switch (layout) {
    case cases::Layout::kLengthFirst:
      return {{0, 4, 1, 2, 3}};
    case cases::Layout::kWider:
      return {{0, 1, 2, 3, 4}, 3};
    case cases::Layout::kInnerStride:
      return {{0, 1, 3, 4, 2}, 2};
    case cases::Layout::kSharedBatch:
      return {{0, 1, 2, 3, 4}, 1, {true}};
    default:
      return {{0, 1, 2, 3, 4}};
  }
}

// Log-sum-exp and gradients of biases, rank 4.
inline Placement<4> placement_of_sums(cases::Layout layout) {
  switch (layout) {
    case cases::Layout::kLengthFirst:
      return {{0, 1, 3, 2}};
    case cases::Layout::kWider:
      return {{0, 1, 2, 3}, 3};
    case cases::Layout::kInnerStride:
      return {{3, 0, 1, 2}, 2};
    default:
      return {{0, 1, 2, 3}};
  }
}

}  // namespace longfold::kernels
