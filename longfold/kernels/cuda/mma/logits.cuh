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

// What products with a tile of keys start from: a hidden key's are far below all others.
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

// Calls function with the kind as a constant.
template <class Function>
__device__ __forceinline__ void with_mask_kind(uint32_t mask_tile, const Function& function) {
  switch (mask_kind(mask_tile)) {
    case MaskTile::kAllShown:
      return function.template operator()<MaskTile::kAllShown>();
    case MaskTile::kSomeHidden:
      return function.template operator()<MaskTile::kSomeHidden>();
    case MaskTile::kValues:
      return function.template operator()<MaskTile::kValues>();
  }
}

}  // namespace longfold::kernels::cuda::mma
