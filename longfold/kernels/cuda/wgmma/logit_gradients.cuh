// Gradients of logits of 64 rows by 64 columns, from products: s becomes weights, grad, which is grad_out . v - delta,
// weights times that.
#pragma once

#include "longfold/kernels/cuda/wgmma/columns.cuh"
#include "longfold/kernels/cuda/wgmma/pair_bias.cuh"
#include "longfold/kernels/cuda/wgmma/products.cuh"

namespace longfold::kernels::cuda::wgmma {

// The mask of 8 * Tiles keys, of which this lane's first two lie at `mask`, times a factor.
template <int NumTiles>
__device__ __forceinline__ void add_mask(float (&s)[NumTiles][4], uint32_t mask, float factor) {
#pragma unroll
  for (int j = 0; j < NumTiles; ++j) {
    const float4 two = ptx::load_shared<float4>(mask + 64 * j);
    s[j][0] = fmaf(two.x, factor, s[j][0]), s[j][1] = fmaf(two.y, factor, s[j][1]);
    s[j][2] = fmaf(two.z, factor, s[j][2]), s[j][3] = fmaf(two.w, factor, s[j][3]);
  }
}

// What products leave to the threads of a tile's mask: `mask` is from its start on, s are exponents of weights.
template <int NumTiles>
__device__ __forceinline__ void apply_mask(float (&s)[NumTiles][4], uint32_t mask, int lane) {
  const mma::MaskTile kind = mma::mask_kind(mask);
  if (kind == mma::MaskTile::kValues) add_mask(s, mask + 16 * (lane % 4), mma::kLog2E);
  if (kind == mma::MaskTile::kSelected) mma::replace_hidden(s, mask + 16 * (lane % 4), -INFINITY);
}

__device__ __forceinline__ void to_weights(float (&exponents)[8][4]) {
#pragma unroll
  for (int i = 0; i < 32; ++i) exponents[i / 4][i % 4] = ptx::exp2(exponents[i / 4][i % 4]);
}

__device__ __forceinline__ void to_gradients(float (&grad)[8][4], const float (&weights)[8][4]) {
#pragma unroll
  for (int i = 0; i < 32; ++i) grad[i / 4][i % 4] *= weights[i / 4][i % 4];
}

}  // namespace longfold::kernels::cuda::wgmma
