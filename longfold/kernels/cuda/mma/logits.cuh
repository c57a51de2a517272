// From products to logits, with queries along the rows of a fragment and keys along its columns: scale, pair bias,
// mask.
#pragma once

#include "longfold/kernels/cuda/mma/fragments.cuh"
#include "longfold/kernels/cuda/mma/mask.cuh"

namespace longfold::kernels::cuda::mma {

// 16 queries, from the one at `rows` on, by 16 keys of the pair bias, two tiles of 8 keys, as accumulators hold them.
template <class T, BiasForm Form, class Tile>
__device__ __forceinline__ void read_pair_bias(float (&two)[2][4], uint32_t rows, int key, int lane) {
  if constexpr (Form == BiasForm::k16) {
    uint32_t words[4];
    ptx::load_matrices(words, Tile::unit(rows, lane % 16, key / 8 + lane / 16));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 pair = ptx::unpack<T>(words[i]);
      two[i / 2][i % 2 * 2] = pair.x;
      two[i / 2][i % 2 * 2 + 1] = pair.y;
    }
  } else if constexpr (Form == BiasForm::k32) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint32_t unit = Tile::unit(rows + i % 2 * 8 * Tile::kChunk, lane / 4, key / 4 + i / 2 * 2 + lane % 4 / 2);
      const float2 pair = ptx::load_shared<float2>(unit + lane % 2 * 8);
      two[i / 2][i % 2 * 2] = pair.x;
      two[i / 2][i % 2 * 2 + 1] = pair.y;
    }
  }
}

// What products with a tile of keys start from: a hidden key's from -inf.
template <MaskTile Kind>
struct MaskStart {
  uint32_t mask;  // address of this lane's first two keys
  float4 two = {};

  __device__ __forceinline__ void operator()(int m, int j, float (&start)[4]) {
    if constexpr (Kind == MaskTile::kSomeHidden) {
      if (m == 0) two = ptx::load_shared<float4>(mask + 64 * j);
      start[0] = two.x, start[1] = two.y, start[2] = two.z, start[3] = two.w;
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) start[i] = 0;
    }
  }
};

// Adds a mask's values to the logits of 8 * Tiles keys.
template <int M, int Tiles>
__device__ __forceinline__ void add_mask(float (&logits)[M][Tiles][4], uint32_t mask) {
#pragma unroll
  for (int j = 0; j < Tiles; ++j) {
    const float4 two = ptx::load_shared<float4>(mask + 64 * j);
#pragma unroll
    for (int m = 0; m < M; ++m) {
      logits[m][j][0] += two.x, logits[m][j][1] += two.y;
      logits[m][j][2] += two.z, logits[m][j][3] += two.w;
    }
  }
}

__device__ __forceinline__ MaskTile mask_kind(uint32_t mask_tile) {
  return static_cast<MaskTile>(ptx::load_shared<uint32_t>(mask_tile + kMaskKindAt));
}

// A number in place of what belongs to keys that a mask of bools hides, of 8 * Tiles keys.
template <int Tiles>
__device__ __forceinline__ void replace_hidden(float (&of_keys)[Tiles][4], uint32_t mask, float by) {
#pragma unroll
  for (int j = 0; j < Tiles; ++j) {
    const float2 two = ptx::load_shared<float2>(mask + 64 * j);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if ((i % 2 == 0 ? two.x : two.y) < 0) of_keys[j][i] = by;
    }
  }
}
template <int M, int Tiles>
__device__ __forceinline__ void replace_hidden(float (&of_keys)[M][Tiles][4], uint32_t mask, float by) {
#pragma unroll
  for (int m = 0; m < M; ++m) replace_hidden(of_keys[m], mask, by);
}

// Of a tile of kValues or kSelected.
template <int M, int Tiles>
__device__ __forceinline__ void apply_mask(float (&logits)[M][Tiles][4], uint32_t mask, bool selects) {
  if (selects)
    replace_hidden(logits, mask, -INFINITY);
  else
    add_mask(logits, mask);
}

// Zeros for the keys that a mask of bools hides, where products read them: zero times NaN is NaN. By the four warps
// that use the tile.
template <class KeyTile>
__device__ __forceinline__ void clear_hidden(uint32_t keys, uint32_t mask_tile) {
  static_assert(2 * KeyTile::kRows == 4 * kLanes);
  constexpr int kThreads = 4 * kLanes;
  const int thread = static_cast<int>(threadIdx.x) % kThreads, group = static_cast<int>(threadIdx.x) / kThreads;
  const int key = thread / 2;
  if (ptx::load_shared<float>(mask_tile + 16 * (key / 2) + 4 * (key % 2)) < 0) {
    for (int unit = thread % 2; unit < KeyTile::kUnits; unit += 2) {
      ptx::store_shared(KeyTile::unit(keys, key, unit), float4{});
    }
  }
  ptx::fence_stores_to_products();
  ptx::sync_warpgroup(1 + group);
}

// Calls function with the kind as a constant; kValues stands for kSelected too.
template <class Function>
__device__ __forceinline__ void with_mask_kind(uint32_t mask_tile, const Function& function) {
  switch (mask_kind(mask_tile)) {
    case MaskTile::kAllShown:
      return function.template operator()<MaskTile::kAllShown>();
    case MaskTile::kSomeHidden:
      return function.template operator()<MaskTile::kSomeHidden>();
    case MaskTile::kValues:
    case MaskTile::kSelected:
      return function.template operator()<MaskTile::kValues>();
  }
}

}  // namespace longfold::kernels::cuda::mma
