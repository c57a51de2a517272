// Between tensors as the caller holds them (any type, any strides) and the panels and rows that the products read.
//
// Products read words of 32 bits: one fp32 number (Pack = 1), or, where the CPU multiplies pairs, two neighbouring
// bfloat16 numbers of the summed dimension (Pack = 2).
#pragma once

#include <algorithm>

#include "longfold/kernels/cpu/simd.h"
#include "longfold/kernels/dtype.h"
#include "longfold/kernels/panels.h"

namespace longfold::kernels {
namespace {

template <class T>
inline constexpr int kPack = kHasPairProducts && std::is_same_v<T, bfloat16> ? 2 : 1;

LONGFOLD_INLINE Vec load_as_float(const float* from) {
  return load(from);
}
LONGFOLD_INLINE Vec load_as_float(const bfloat16* from) {
  return widen_bfloat16(load_short(&from->bits));
}
LONGFOLD_INLINE Vec load_as_float(const float16* from) {
  return widen_float16(load_short(&from->bits));
}
LONGFOLD_INLINE Vec load_part_as_float(const float* from, int64_t count) {
  return load_part(from, count);
}
LONGFOLD_INLINE Vec load_part_as_float(const bfloat16* from, int64_t count) {
  return widen_bfloat16(load_part(&from->bits, count));
}
LONGFOLD_INLINE Vec load_part_as_float(const float16* from, int64_t count) {
  return widen_float16(load_part(&from->bits, count));
}
LONGFOLD_INLINE float element(float value) {
  return value;
}
LONGFOLD_INLINE float element(double value) {  // of biases
  return static_cast<float>(value);
}
LONGFOLD_INLINE float element(bfloat16 value) {
  return to_float(value);
}
LONGFOLD_INLINE float element(float16 value) {
  return to_float(value);
}
LONGFOLD_INLINE Vec load_part_as_float(const double* from, int64_t count) {
  alignas(64) float values[kWidth] = {};
  for (int64_t i = 0; i < count; ++i) values[i] = static_cast<float>(from[i]);
  return load(values);
}
LONGFOLD_INLINE Vec load_as_float(const double* from) {
  return load_part_as_float(from, kWidth);
}
LONGFOLD_INLINE void store_as(float* to, Vec value, int64_t count) {
  count == kWidth ? store(to, value) : store_part(to, value, count);
}
LONGFOLD_INLINE void store_as(bfloat16* to, Vec value, int64_t count) {
  const ShortVec bits = narrow_bfloat16(value);
  count == kWidth ? store_short(&to->bits, bits) : store_part(&to->bits, bits, count);
}
LONGFOLD_INLINE void store_as(float16* to, Vec value, int64_t count) {
  const ShortVec bits = narrow_float16(value);
  count == kWidth ? store_short(&to->bits, bits) : store_part(&to->bits, bits, count);
}
LONGFOLD_INLINE void set_element(float& to, float value) {
  to = value;
}
LONGFOLD_INLINE void set_element(bfloat16& to, float value) {
  to = to_bfloat16(value);
}
LONGFOLD_INLINE void set_element(float16& to, float value) {
  to = to_float16(value);
}

// A matrix in the caller's memory: element (row, d) at data[row * row_stride + d * inner_stride].
template <class T>
struct Matrix {
  T* data;
  int64_t row_stride;
  int64_t inner_stride;
};

// Elements [first, first + kWidth) of a row of D; zero past its end.
template <class T>
LONGFOLD_INLINE Vec load_row(const T* row, int64_t inner_stride, int64_t first, int64_t D) {
  const int64_t count = D - first;
  if (inner_stride == 1) {
    return count >= kWidth ? load_as_float(row + first) : load_part_as_float(row + first, std::max<int64_t>(count, 0));
  }
  alignas(64) float values[kWidth] = {};
  for (int64_t i = 0; i < kWidth && i < count; ++i) values[i] = element(row[(first + i) * inner_stride]);
  return load(values);
}

// As words of two neighbours: elements [2 first, 2 first + 2 kWidth).
LONGFOLD_INLINE Vec load_row_pairs(const bfloat16* row, int64_t inner_stride, int64_t first, int64_t D) {
  const int64_t count = D - 2 * first;
  if (inner_stride == 1 && count >= 2 * kWidth) return load(reinterpret_cast<const float*>(row + 2 * first));
  if (inner_stride == 1 && count % 2 == 0) {
    return load_part(reinterpret_cast<const float*>(row + 2 * first), std::max<int64_t>(count / 2, 0));
  }
  alignas(64) uint16_t values[2 * kWidth] = {};
  for (int64_t i = 0; i < 2 * kWidth && i < count; ++i) values[i] = row[(2 * first + i) * inner_stride].bits;
  Vec result;
  __builtin_memcpy(&result, values, sizeof result);
  return result;
}

template <int Pack, class T>
LONGFOLD_INLINE Vec load_words(const T* row, int64_t inner_stride, int64_t first, int64_t D) {
  if constexpr (Pack == 2)
    return load_row_pairs(row, inner_stride, first, D);
  else
    return load_row(row, inner_stride, first, D);
}

// Rows whose words lie as they should, in pieces that end where the row ends: whole vectors would write over the next
// row's place and across cache lines, which is slow.
template <int kPieceBytes, class T>
void copy_rows(Matrix<const T> from, int64_t count, int64_t D, float* to) {
  const int64_t row_bytes = D * static_cast<int64_t>(sizeof(T));
  auto* target = reinterpret_cast<char*>(to);
  for (int64_t row = 0; row < count; ++row, target += row_bytes) {
    const auto* source = reinterpret_cast<const char*>(from.data + row * from.row_stride);
    for (int64_t at = 0; at < row_bytes; at += kPieceBytes) __builtin_memcpy(target + at, source + at, kPieceBytes);
  }
}

// to[row][words], pairs of neighbours in a row. Writes up to kWidth - 1 words past the end of each row, the last too.
template <int Pack, class T>
void pack_rows(Matrix<const T> from, int64_t count, int64_t D, float* to) {
  const int64_t words = divide_up(D, Pack);
  if constexpr (Pack == 2 || std::is_same_v<T, float>) {
    const int64_t row_bytes = D * static_cast<int64_t>(sizeof(T));
    if (from.inner_stride == 1 && words % kWidth != 0) {
      if (row_bytes % 32 == 0) return copy_rows<32>(from, count, D, to);
      if (row_bytes % 16 == 0) return copy_rows<16>(from, count, D, to);
    }
  }
  for (int64_t row = 0; row < count; ++row, to += words) {
    const T* source = from.data + row * from.row_stride;
    for (int64_t w = 0; w < words; w += kWidth) store(to + w, load_words<Pack>(source, from.inner_stride, w, D));
  }
}

// to[row / Pack][D] words: pairs of neighbouring rows; a last row without partner gets zeros. Writes up to kWidth - 1
// words past the end of each row, the last too.
template <int Pack, class T>
void pack_row_pairs(Matrix<const T> from, int64_t count, int64_t D, float* to) {
  if constexpr (Pack == 1) {
    pack_rows<1>(from, count, D, to);
  } else {
    for (int64_t row = 0; row < count; row += 2, to += D) {
      const T* source = from.data + row * from.row_stride;
      for (int64_t d = 0; d < D; d += kWidth) {
        const Vec low = load_row(source, from.inner_stride, d, D);
        const Vec high = row + 1 < count ? load_row(source + from.row_stride, from.inner_stride, d, D) : Vec{};
        // Exact: both were bfloat16 before.
        const IntVec word =
            (reinterpret_cast<IntVec>(high) & ~0xffff) | ((reinterpret_cast<IntVec>(low) >> 16) & 0xffff);
        store(to + d, reinterpret_cast<Vec>(word));
      }
    }
  }
}

// Zeros in the place of one row that pack_row_pairs packed.
template <int Pack>
void clear_row_of_pairs(int64_t row, int64_t D, float* packed) {
  float* words = packed + row / Pack * D;
  for (int64_t d = 0; d < D; ++d) {
    uint32_t word = 0;
    if constexpr (Pack == 2) {
      __builtin_memcpy(&word, words + d, sizeof word);
      word &= row % 2 == 0 ? 0xffff0000u : 0x0000ffffu;
    }
    __builtin_memcpy(words + d, &word, sizeof word);
  }
}

// kWidth vectors become their columns: log2(kWidth) rounds, each of which zips the first half with the second.
LONGFOLD_INLINE void transpose(Vec (&rows)[kWidth]) {
#pragma GCC unroll 4
  for (int round = 1; round < kWidth; round *= 2) {
    Vec zipped[kWidth];
#pragma GCC unroll 16
    for (int i = 0; i < kWidth / 2; ++i) {
      zipped[2 * i] = zip_low(rows[i], rows[i + kWidth / 2]);
      zipped[2 * i + 1] = zip_high(rows[i], rows[i + kWidth / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; ++i) rows[i] = zipped[i];
  }
}

// panel[word][64] = words of rows < count, transposed; lanes past them are zero.
template <int Pack, class T>
void rows_to_panel(Matrix<const T> from, int64_t count, int64_t D, float* panel) {
  const int64_t words = divide_up(D, Pack);
  for (int64_t row = 0; row < kLanes; row += kWidth) {
    for (int64_t word = 0; word < words; word += kWidth) {
      Vec tile[kWidth];
#pragma GCC unroll 16
      for (int64_t i = 0; i < kWidth; ++i) {
        tile[i] = row + i < count
                      ? load_words<Pack>(from.data + (row + i) * from.row_stride, from.inner_stride, word, D)
                      : Vec{};
      }
      transpose(tile);
      const int64_t columns = std::min<int64_t>(kWidth, words - word);
#pragma GCC unroll 16
      for (int64_t i = 0; i < kWidth; ++i) {
        if (i < columns) store(panel + (word + i) * kLanes + row, tile[i]);
      }
    }
  }
}

// to(row, d) = panel[d][row] * factor[row] for rows < count.
template <class T>
void panel_to_rows(const float* panel, const float* factor, int64_t D, Matrix<T> to, int64_t count) {
  for (int64_t row = 0; row < count; row += kWidth) {
    const Vec scale = load(factor + row);
    for (int64_t d = 0; d < D; d += kWidth) {
      const int64_t columns = std::min<int64_t>(kWidth, D - d);
      Vec tile[kWidth];
#pragma GCC unroll 16
      for (int64_t i = 0; i < kWidth; ++i) tile[i] = i < columns ? load(panel + (d + i) * kLanes + row) * scale : Vec{};
      transpose(tile);
      for (int64_t i = 0; i < kWidth && row + i < count; ++i) {
        T* target = to.data + (row + i) * to.row_stride + d * to.inner_stride;
        if (to.inner_stride == 1) {
          store_as(target, tile[i], columns);
        } else {
          for (int64_t j = 0; j < columns; ++j) set_element(target[j * to.inner_stride], tile[i][j]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace longfold::kernels
