// Products of a warpgroup with tiles in shared memory; tiles as in mma/tile.cuh, whose chunks are what descriptors can
// name.
#pragma once

#include "longfold/kernels/cuda/mma/ring.cuh"
#include "longfold/kernels/cuda/mma/tile.cuh"
#include "longfold/kernels/cuda/ptx_wgmma.cuh"

namespace longfold::kernels::cuda::wgmma {

using mma::kLanes;

// Of what lies at an address of a tile, in units of 16 bytes: groups of 8 rows lie 8 chunks apart, chunks of the same
// rows kRows chunks. Its lower half is the address, to which multiples of a unit can be added.
template <class Tile>
__device__ __forceinline__ uint64_t descriptor(uint32_t units) {
  static_assert(Tile::kChunk == 128 || Tile::kChunk == 64 || Tile::kChunk == 32);
  constexpr uint64_t kSwizzle = Tile::kChunk == 128 ? 1 : Tile::kChunk == 64 ? 2 : 3;
  constexpr uint64_t kNextEight = 8 * Tile::kChunk / 16, kNextChunk = Tile::kRows * Tile::kChunk / 16;
  constexpr uint32_t kHigh = static_cast<uint32_t>((kSwizzle << 62 | kNextEight << 32) >> 32);
  return uint64_t{kHigh} << 32 | ((static_cast<uint32_t>(kNextChunk) << 16) + units);
}

// Where the depth'th 16 elements of rows lie, beyond the first ones, in units.
template <class Tile>
__device__ __forceinline__ uint32_t depth_units(int depth) {
  return static_cast<uint32_t>(depth * 32 / Tile::kChunk * Tile::kRows * Tile::kChunk + depth * 32 % Tile::kChunk) / 16;
}

// s += a rows^T, or s = a rows^T: products over the head dim with 64 rows of a tile, from the one at `rows` on.
template <class T, class Tile, int Deep>
__device__ __forceinline__ void add_products(float (&s)[8][4], const uint32_t (&a)[Deep][4], uint32_t rows) {
  static_assert(Deep == Tile::kRowBytes / 32);
#pragma unroll
  for (int d = 0; d < Deep; ++d) ptx::add_async<T>(s, a[d], descriptor<Tile>(rows / 16 + depth_units<Tile>(d)));
}
template <class T, class Tile, int Deep>
__device__ __forceinline__ void start_products(float (&s)[8][4], const uint32_t (&a)[Deep][4], uint32_t rows) {
  static_assert(Deep == Tile::kRowBytes / 32);
  ptx::multiply_async<T>(s, a[0], descriptor<Tile>(rows / 16));
#pragma unroll
  for (int d = 1; d < Deep; ++d) ptx::add_async<T>(s, a[d], descriptor<Tile>(rows / 16 + depth_units<Tile>(d)));
}

// 64 rows of a tile as first factors that stay where they lie.
template <class Tile>
struct RowsInPlace {
  uint32_t at;
};
template <class T, class Tile, class TileOfA>
__device__ __forceinline__ void add_products(float (&s)[8][4], RowsInPlace<TileOfA> a, uint32_t rows) {
  static_assert(TileOfA::kRowBytes == Tile::kRowBytes);
#pragma unroll
  for (int d = 0; d < Tile::kRowBytes / 32; ++d) {
    ptx::add_async<T>(s, descriptor<TileOfA>(a.at / 16 + depth_units<TileOfA>(d)),
                      descriptor<Tile>(rows / 16 + depth_units<Tile>(d)));
  }
}
template <class T, class Tile, class TileOfA>
__device__ __forceinline__ void start_products(float (&s)[8][4], RowsInPlace<TileOfA> a, uint32_t rows) {
  static_assert(TileOfA::kRowBytes == Tile::kRowBytes);
  ptx::multiply_async<T>(s, descriptor<TileOfA>(a.at / 16), descriptor<Tile>(rows / 16));
#pragma unroll
  for (int d = 1; d < Tile::kRowBytes / 32; ++d) {
    ptx::add_async<T>(s, descriptor<TileOfA>(a.at / 16 + depth_units<TileOfA>(d)),
                      descriptor<Tile>(rows / 16 + depth_units<Tile>(d)));
  }
}

// Numbers of 64 rows and columns as first factors of a second product.
template <class T>
__device__ __forceinline__ void pack_weights(uint32_t (&a)[4][4], const float (&s)[8][4]) {
#pragma unroll
  for (int k = 0; k < 4; ++k) {
#pragma unroll
    for (int i = 0; i < 4; ++i) a[k][i] = ptx::pack<T>(s[2 * k + i / 2][i % 2 * 2], s[2 * k + i / 2][i % 2 * 2 + 1]);
  }
}

// out += weights rows: sums over 64 rows of a tile, from the one at `rows` on, which are positions. Wide rows are taken
// whole: chunk after chunk, as the descriptor says.
template <class T, class Tile, int Columns = Tile::kRowBytes / 2>
__device__ __forceinline__ void start_weighted_sum(float (&out)[Columns / 8][4], const uint32_t (&weights)[4][4],
                                                   uint32_t rows) {
  constexpr int kWide = Columns >= 64 ? Columns : Columns % 32 == 0 ? 32 : 16;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
#pragma unroll
    for (int column = 0; column < Columns; column += kWide) {
      const uint32_t at = rows / 16 + k * Tile::kChunk + depth_units<Tile>(column / 16);
      ptx::add_transposed_async<T, kWide>(out + column / 8, weights[k], descriptor<Tile>(at));
    }
  }
}

}  // namespace longfold::kernels::cuda::wgmma
