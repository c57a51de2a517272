// Products of tiles. Positions are queries or keys; rows of HeadDim 16-bit elements lie in shared memory, row_pitch
// apart.
#pragma once

#include "longfold/kernels/cuda/mma/params.h"
#include "longfold/kernels/cuda/mma/ring.cuh"
#include "longfold/kernels/cuda/mma/tile.cuh"

namespace longfold::kernels::cuda::mma {

template <int HeadDim>
struct Head {
  static constexpr int kUnits = HeadDim / 8;      // of 16 bytes, in a row
  static constexpr int kDeep = (kUnits + 1) / 2;  // fragments of 16 along the head dim; the last one half if kOdd
  static constexpr bool kOdd = kUnits % 2 == 1;
  // Tiles of 8 positions whose matrices fill whole loads of four.
  static constexpr int kTogether = kUnits % 4 == 0 ? 1 : kUnits % 2 == 0 ? 2 : 4;
};

// Fragments of a first factor.
template <int HeadDim>
using RowFragments = uint32_t[Head<HeadDim>::kDeep][4];

// 16 rows of a tile, from the one at `rows` on.
template <class Tile, int HeadDim = Tile::kRowBytes / 2>
__device__ __forceinline__ void load_fragments(RowFragments<HeadDim>& to, uint32_t rows, int lane) {
  using H = Head<HeadDim>;
#pragma unroll
  for (int d = 0; d < H::kDeep; ++d) {
    const bool half = H::kOdd && d + 1 == H::kDeep;
    ptx::load_matrices(to[d], Tile::unit(rows, lane % 16, 2 * d + (half ? 0 : lane / 16)));
  }
}

// The same, and waits until they have come: what must be before a stage is left, where nothing used them yet.
template <class Tile, int HeadDim = Tile::kRowBytes / 2>
__device__ __forceinline__ void take_fragments(RowFragments<HeadDim>& to, uint32_t rows, int lane) {
  load_fragments<Tile>(to, rows, lane);
  ptx::wait_for_loads();
}

// s[m][j] = start(m, j) + a[m] rows(j)^T: products over the head dim, with 8 * Tiles rows of a tile, from the one at
// `rows` on.
template <class T, class Tile, int M, int Tiles, class Start, int HeadDim = Tile::kRowBytes / 2>
__device__ __forceinline__ void multiply_rows(float (&s)[M][Tiles][4], const RowFragments<HeadDim> (&a)[M],
                                              uint32_t rows, int lane, Start start) {
  using H = Head<HeadDim>;
  static_assert(Tiles % H::kTogether == 0);
  constexpr int kLoads = H::kTogether * H::kUnits / 4;
#pragma unroll
  for (int first = 0; first < Tiles; first += H::kTogether) {
    uint32_t b[kLoads][4];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int matrix = 4 * i + lane / 8;
      const int tile = H::kTogether == 1 ? 0 : matrix / H::kUnits,
                unit = H::kTogether == 1 ? matrix : matrix % H::kUnits;
      ptx::load_matrices(b[i], Tile::unit(rows + (first + tile) * 8 * Tile::kChunk, lane % 8, unit));
    }
#pragma unroll
    for (int t = 0; t < H::kTogether; ++t) {
      const int j = first + t;
#pragma unroll
      for (int m = 0; m < M; ++m) start(m, j, s[m][j]);
#pragma unroll
      for (int d = 0; d < H::kDeep; ++d) {
        const int matrix = t * H::kUnits + 2 * d;
#pragma unroll
        for (int m = 0; m < M; ++m) {
          if (H::kOdd && d + 1 == H::kDeep)
            ptx::multiply_half<T>(s[m][j], a[m][d][0], a[m][d][1], b[matrix / 4][matrix % 4], s[m][j]);
          else
            ptx::multiply<T>(s[m][j], a[m][d], b[matrix / 4][matrix % 4], b[(matrix + 1) / 4][(matrix + 1) % 4],
                             s[m][j]);
        }
      }
    }
  }
}

// The weights of 16 by 8 * Tiles positions as first factors: from a[first] on.
template <class T, int Factors, int M, int Tiles>
__device__ __forceinline__ void pack_weights(uint32_t (&a)[Factors][Tiles / 2][4], int first,
                                             const float (&s)[M][Tiles][4]) {
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int k = 0; k < Tiles / 2; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float* pair = &s[m][2 * k + i / 2][i % 2 * 2];
        a[first + m][k][i] = ptx::pack<T>(pair[0], pair[1]);
      }
    }
  }
}

// sums[m] += what the rows of s hold in this thread.
template <int M, int Tiles>
__device__ __forceinline__ void add_rows(float (&sums)[M][2], const float (&s)[M][Tiles][4]) {
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int j = 0; j < Tiles; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[m][i / 2] += s[m][j][i];
    }
  }
}

// out[m] += weights[m] rows: sums over 16 * Sixteens positions.
template <class T, class Tile, int M, int Sixteens, int HeadDim = Tile::kRowBytes / 2>
__device__ __forceinline__ void add_weighted_rows(float (&out)[M][HeadDim / 8][4],
                                                  const uint32_t (&weights)[M][Sixteens][4], uint32_t rows, int lane) {
  using H = Head<HeadDim>;
  constexpr int kPairs = Sixteens * H::kUnits;  // of matrices: 16 positions by 8 elements
  static_assert(kPairs % 2 == 0);
#pragma unroll
  for (int first = 0; first < kPairs; first += 2) {
    const int pair = first + lane / 16;
    const int at = H::kOdd ? pair / H::kUnits : first / H::kUnits;
    const int unit = H::kOdd ? pair % H::kUnits : first % H::kUnits + lane / 16;
    uint32_t b[4];
    ptx::load_matrices_transposed(b, Tile::unit(rows + at * 16 * Tile::kChunk, lane % 16, unit));
#pragma unroll
    for (int p = 0; p < 2; ++p) {
      const int k = (first + p) / H::kUnits, u = (first + p) % H::kUnits;
#pragma unroll
      for (int m = 0; m < M; ++m) ptx::multiply<T>(out[m][u], weights[m][k], b[2 * p], b[2 * p + 1], out[m][u]);
    }
  }
}

// Four words of a lane, of as many units of a row, become all words of the unit that has the lane's number among its
// four neighbours, which hold words of the same row.
__device__ __forceinline__ void words_of_units_to_unit(uint32_t (&words)[4], int lane) {
  const bool is_odd = lane % 2 != 0, is_high = lane / 2 % 2 != 0;
  uint32_t two[2][2];  // of units with the lane's parity: words of the even and the odd neighbour
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t mine = is_odd ? words[2 * i + 1] : words[2 * i];
    const uint32_t other = ptx::shuffle_xor(is_odd ? words[2 * i] : words[2 * i + 1], 1);
    two[i][0] = is_odd ? other : mine;
    two[i][1] = is_odd ? mine : other;
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t mine = is_high ? two[1][i] : two[0][i];
    const uint32_t other = ptx::shuffle_xor(is_high ? two[0][i] : two[1][i], 2);
    words[i] = is_high ? other : mine;
    words[2 + i] = is_high ? mine : other;
  }
}

// 16 rows of results times their factors, those of them from first on that are before `end`. Sums may be wider than
// rows.
template <class T, int HeadDim, int Units>
__device__ __forceinline__ void store_rows(const Rows& rows, const char* of_head, int first, int end,
                                           const float (&sums)[Units][4], const float (&factor)[2]) {
  static_assert(Units >= HeadDim / 8);
  constexpr int kUnits = HeadDim / 8;
  const int lane = lane_of_warp(), column = 2 * (lane % 4);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int position = first + half * 8 + lane / 4;
    char* const row = const_cast<char*>(of_head) + 2 * position * rows.strides[2];
    const auto word = [&](int u) {
      return ptx::pack<T>(sums[u][2 * half] * factor[half], sums[u][2 * half + 1] * factor[half]);
    };
    if (rows.in_units) {
#pragma unroll
      for (int u = 0; u < kUnits; u += 4) {
        uint32_t words[4] = {};
#pragma unroll
        for (int i = 0; i < 4 && u + i < kUnits; ++i) words[i] = word(u + i);
        words_of_units_to_unit(words, lane);
        if (position < end && u + lane % 4 < kUnits) {
          reinterpret_cast<uint4*>(row)[u + lane % 4] = {words[0], words[1], words[2], words[3]};
        }
      }
    } else if (position < end) {
#pragma unroll
      for (int u = 0; u < kUnits; ++u) {
        uint16_t* const at = reinterpret_cast<uint16_t*>(row) + (8 * u + column) * rows.strides[4];
        at[0] = static_cast<uint16_t>(word(u));
        at[rows.strides[4]] = static_cast<uint16_t>(word(u) >> 16);
      }
    }
  }
}

}  // namespace longfold::kernels::cuda::mma
