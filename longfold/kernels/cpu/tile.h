// The one matrix product of the CPU kernels: a tile of R rows by C vectors stays in registers while it sums
// outer products, acc[r][c] += a[r, k] * b[k, c], over k. `a` is broadcast word by word and read in place with any
// strides; rows of `b` are contiguous. A word is one fp32 number, or a pair of bfloat16 numbers whose two products are
// added (Pack, see pack.h).
#pragma once

#include <type_traits>

#include "longfold/kernels/cpu/simd.h"

namespace longfold::kernels {
namespace {

template <int R, int C>
struct Tile {
  Vec acc[R][C];

  LONGFOLD_INLINE void clear() {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) acc[r][c] = Vec{};
    }
  }

  // a: word (r, k) at a[r * a_row + k * a_inner]; b: row k at b + k * b_row. With Side = 2 a step takes the words k and
  // k + 1 of a, neighbours in memory, and b has the two rows' words in turn: rows of b that fill half a vector
  // otherwise.
  template <int Pack, int Side = 1>
  LONGFOLD_INLINE void multiply(const float* a, int64_t a_row, int64_t a_inner, const float* b, int64_t b_row,
                                int64_t steps) {
    for (int64_t k = 0; k < steps; ++k) {
      Vec row[C];
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) row[c] = load(b + c * kWidth);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const Vec value = Side == 2 ? splat_pair(a + r * a_row) : splat(a[r * a_row]);
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) {
          if constexpr (Pack == 2)
            acc[r][c] = add_pair_products(value, row[c], acc[r][c]);
          else
            acc[r][c] = fma(value, row[c], acc[r][c]);
        }
      }
      a += Side * a_inner;
      b += b_row;
    }
  }

  // to[r * row + c * kWidth] += tile
  LONGFOLD_INLINE void add_to(float* to, int64_t row) const {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) store(to + r * row + c * kWidth, load(to + r * row + c * kWidth) + acc[r][c]);
    }
  }

  LONGFOLD_INLINE void write_to(float* to, int64_t row) const {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) store(to + r * row + c * kWidth, acc[r][c]);
    }
  }
};

template <int R>
using Rows = std::integral_constant<int, R>;
template <int C>
using Columns = std::integral_constant<int, C>;

// Rows of a tile that leave room for C vectors of b and one broadcast among the registers.
template <int C>
constexpr int kTileRows = kRegisters == 32 ? (C == 4   ? 6
                                              : C == 3 ? 8
                                              : C == 2 ? 12
                                                       : 16)
                                           : (C == 2 ? 6 : 12);
constexpr int kTileColumns = kRegisters == 32 ? 4 : 2;

// Rows that are left when tiles of Largest rows have taken what they can.
template <int Largest>
[[nodiscard]] LONGFOLD_INLINE constexpr int64_t rows_left(int64_t count) {
  const int64_t left = count % Largest;
  return Largest == 6 && left == 2 && count >= 8 ? 8 : left;  // 4 + 4 keeps the pipes fuller than 6 + 2
}

// Covers `count` rows with tiles of at most Largest rows: body(Rows<R>{}, first row).
template <int Largest, class Body>
LONGFOLD_INLINE void for_row_groups(int64_t count, Body&& body) {
  int64_t row = 0;
  const int64_t remainder = rows_left<Largest>(count);
  for (; row < count - remainder; row += Largest) body(Rows<Largest>{}, row);
  for (; row + 4 <= count; row += 4) body(Rows<4>{}, row);
  for (; row < count; ++row) body(Rows<1>{}, row);
}

// How many tiles that makes.
template <int Largest>
[[nodiscard]] constexpr int64_t num_row_groups(int64_t count) {
  const int64_t left = rows_left<Largest>(count);
  return (count - left) / Largest + left / 4 + left % 4;
}

// Covers a row of `count` vectors with groups of at most kTileColumns: body(Columns<C>{}, first vector).
template <class Body>
LONGFOLD_INLINE void for_column_groups(int64_t count, Body&& body) {
  int64_t column = 0;
  for (; column + kTileColumns <= count; column += kTileColumns) body(Columns<kTileColumns>{}, column);
  if constexpr (kTileColumns > 2) {
    if (count - column == 3) {
      body(Columns<3>{}, column);
      return;
    }
    if (count - column == 2) {
      body(Columns<2>{}, column);
      return;
    }
  }
  if (count - column == 1) body(Columns<1>{}, column);
}

}  // namespace
}  // namespace longfold::kernels
