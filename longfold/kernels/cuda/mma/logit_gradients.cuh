// Gradients of logits, with queries along the rows of a fragment: weights times (grad_out . v - delta).
#pragma once

#include "longfold/kernels/cuda/mma/logits.cuh"
#include "longfold/kernels/cuda/mma/statistics.cuh"

namespace longfold::kernels::cuda::mma {

// What a lane knows of the queries of its rows: two for each m.
template <int M>
struct QueryRows {
  float minus_lse[M][2], minus_delta[M][2];
  bool any_uniform;  // in the warp

  // `of_query(i)` tells of the i'th query of the warp.
  template <class OfQuery>
  __device__ QueryRows(const OfQuery& of_query, int lane) {
    bool uniform = false;
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const QueryStatistics found = of_query(16 * m + 8 * half + lane / 4);
        minus_lse[m][half] = found.minus_lse;
        minus_delta[m][half] = found.minus_delta;
        uniform |= found.minus_lse == kUniform;
      }
    }
    any_uniform = ptx::any(uniform);
  }
};

// Calls function with the kind of a tile of the mask, and with whether some rows are uniform, as constants; kValues
// stands for kSelected too.
template <class Function>
__device__ __forceinline__ void with_kinds(uint32_t mask_tile, bool some_uniform, const Function& function) {
  const MaskTile kind = mask_kind(mask_tile);
  if (!is_in_products(kind)) {
    if (some_uniform)
      function.template operator()<MaskTile::kValues, true>();
    else
      function.template operator()<MaskTile::kValues, false>();
  } else if (some_uniform) {
    function.template operator()<MaskTile::kSomeHidden, true>();
  } else if (kind == MaskTile::kSomeHidden) {
    function.template operator()<MaskTile::kSomeHidden, false>();
  } else {
    function.template operator()<MaskTile::kAllShown, false>();
  }
}

// Of 8 * Tiles keys: those at `keys` and `values`, which are `key` of the bias, whose queries start at `bias`; from the
// keys_left'th on there are none.
// `s` becomes the weights. SomeUniform: some of the rows may have weights of 1 / Lk, at hidden keys too.
template <class T, class KeyTile, class PairTile, BiasForm Form, MaskTile Mask, bool SomeUniform, int M, int Tiles,
          int HeadDim = KeyTile::kRowBytes / 2>
__device__ __forceinline__ void logit_gradients(float (&grad)[M][Tiles][4], float (&s)[M][Tiles][4],
                                                const RowFragments<HeadDim> (&q)[M],
                                                const RowFragments<HeadDim> (&grad_out)[M], const QueryRows<M>& rows,
                                                uint32_t keys, uint32_t values, uint32_t bias, int key, int keys_left,
                                                uint32_t mask, bool selects, const Problem& p, int lane) {
  constexpr bool kIsProduct = Form == BiasForm::kNone && Mask != MaskTile::kValues;
  multiply_rows<T, KeyTile>(s, q, keys, lane, MaskStart<Mask>{mask});
  multiply_rows<T, KeyTile>(grad, grad_out, values, lane, [&](int m, int, float (&start)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) start[i] = rows.minus_delta[m][i / 2];
  });
  if constexpr (!kIsProduct) {
#pragma unroll
    for (int j = 0; j < Tiles; j += 2) {
#pragma unroll
      for (int m = 0; m < M; ++m) {
        float two[2][4] = {};
        read_pair_bias<T, Form, PairTile>(two, bias + 16 * m * PairTile::kChunk, key + 8 * j, lane);
#pragma unroll
        for (int i = 0; i < 8; ++i) s[m][j + i / 4][i % 4] = fmaf(s[m][j + i / 4][i % 4], p.scale, two[i / 4][i % 4]);
      }
    }
  }
  if constexpr (Mask == MaskTile::kValues) apply_mask(s, mask, selects);
  const float to_log2 = kIsProduct ? p.scale * kLog2E : kLog2E;
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int j = 0; j < Tiles; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) s[m][j][i] = ptx::exp2(fmaf(s[m][j][i], to_log2, rows.minus_lse[m][i / 2]));
    }
  }
  if constexpr (SomeUniform) {
    const float uniform = 1 / static_cast<float>(p.Lk);
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
      for (int j = 0; j < Tiles; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const bool is_there = 8 * j + lane % 4 * 2 + i % 2 < keys_left;
          if (rows.minus_lse[m][i / 2] == kUniform) s[m][j][i] = is_there ? uniform : 0;
        }
      }
    }
  }
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int j = 0; j < Tiles; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) grad[m][j][i] *= s[m][j][i];
    }
  }
}

}  // namespace longfold::kernels::cuda::mma
