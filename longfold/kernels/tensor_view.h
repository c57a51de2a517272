// A tensor as kernels see it: a pointer, sizes and strides in elements. Trivially copyable, owns nothing.
#pragma once

#include <array>
#include <cstdint>
#include <type_traits>

#include "longfold/kernels/dtype.h"

namespace longfold::kernels {

template <class T, int Rank>
struct TensorView {
  T* data = nullptr;
  std::array<int64_t, Rank> sizes{};
  std::array<int64_t, Rank> strides{};

  template <class... Index>
  [[nodiscard]] T* at(Index... index) const {
    static_assert(sizeof...(Index) <= Rank, "more indices than dimensions");
    int64_t offset = 0;
    int dim = 0;
    ((offset += static_cast<int64_t>(index) * strides[static_cast<size_t>(dim++)]), ...);
    return data + offset;
  }
  template <class... Index>
  [[nodiscard]] T& operator()(Index... index) const {
    static_assert(sizeof...(Index) == Rank, "one index for each dimension");
    return *at(index...);
  }
};

// An additive bias, broadcast to [B, N, H, Lq, Lk] by strides of 0. Its element type need not be that of the queries.
// One of kBool, a byte for each element, hides keys instead, where it is 0 (kHiddenLogit); it is the same for all
// queries: strides[3] is 0.
struct BiasView {
  const void* data = nullptr;
  DType dtype = DType::kFloat32;
  std::array<int64_t, 5> strides{};  // of [B, N, H, Lq, Lk], in elements

  [[nodiscard]] int64_t offset(int64_t b, int64_t n, int64_t h, int64_t i, int64_t j) const {
    return b * strides[0] + n * strides[1] + h * strides[2] + i * strides[3] + j * strides[4];
  }
};

static_assert(std::is_trivially_copyable_v<TensorView<float, 5>> && std::is_trivially_copyable_v<BiasView>,
              "views are passed to device kernels by value");

}  // namespace longfold::kernels
