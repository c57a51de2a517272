// The rows that scatter adds up, and their sums: as many words of D as fill vectors, two summed steps side by side
// where half a vector would stay empty (scatter_side in evoformer/tile_size.h).
#pragma once

#include "longfold/kernels/cpu/pack.h"

namespace longfold::kernels {
namespace {

// Calls body.operator()<Side>().
template <class Body>
LONGFOLD_INLINE void with_side(int64_t side, Body&& body) {
  side == 2 ? body.template operator()<2>() : body.template operator()<1>();
}

// Words [d, d + kWidth) of one summed step: row `step`, or rows 2 step and 2 step + 1 in pairs; zero past `count`.
template <int Pack, class T>
LONGFOLD_INLINE Vec step_words(Matrix<const T> from, int64_t step, int64_t count, const float* factor, int64_t d,
                               int64_t D) {
  const auto row = [&](int64_t i) LONGFOLD_INLINE_LAMBDA {
    return i < count ? load_row(from.data + i * from.row_stride, from.inner_stride, d, D) : Vec{};
  };
  if constexpr (Pack == 2) {
    const auto low = reinterpret_cast<IntVec>(row(2 * step)), high = reinterpret_cast<IntVec>(row(2 * step + 1));
    return reinterpret_cast<Vec>((high & ~0xffff) | ((low >> 16) & 0xffff));  // exact: both were bfloat16
  } else {
    return factor == nullptr ? row(step) : row(step) * splat(factor[step]);
  }
}

// to[64 / Pack / Side][width] = rows < count, times factor[row] if there are factors (single words only).
template <int Pack, int Side, class T>
void pack_scatter_rows(Matrix<const T> from, int64_t count, int64_t D, const float* factor, int64_t width, float* to) {
  for (int64_t step = 0; step < kLanes / Pack; step += Side, to += width) {
    for (int64_t d = 0; d * Side < width; d += kWidth) {
      const Vec first = step_words<Pack>(from, step, count, factor, d, D);
      if constexpr (Side == 1) {
        store(to + d, first);
      } else {
        const Vec second = step_words<Pack>(from, step + 1, count, factor, d, D);
        store(to + 2 * d, zip_low(first, second));
        if (2 * d + kWidth < width) store(to + 2 * d + kWidth, zip_high(first, second));
      }
    }
  }
}

// to(row, d) = factor * sums[row], for rows < count.
template <class T>
void unpack_sums(const float* sums, int64_t side, int64_t width, float factor, Matrix<T> to, int64_t count, int64_t D) {
  for (int64_t row = 0; row < count; ++row, sums += width) {
    T* target = to.data + row * to.row_stride;
    for (int64_t d = 0; d < D; d += kWidth) {
      const int64_t columns = std::min<int64_t>(kWidth, D - d);
      Vec value;
      if (side == 1) {
        value = load(sums + d);
      } else {
        const Vec low = load(sums + 2 * d), high = 2 * d + kWidth < width ? load(sums + 2 * d + kWidth) : Vec{};
        value = __builtin_shuffle(low, high, kEven) + __builtin_shuffle(low, high, kOdd);
      }
      value *= splat(factor);
      if (to.inner_stride == 1) {
        store_as(target + d, value, columns);
      } else {
        for (int64_t i = 0; i < columns; ++i) set_element(target[(d + i) * to.inner_stride], value[i]);
      }
    }
  }
}

}  // namespace
}  // namespace longfold::kernels
