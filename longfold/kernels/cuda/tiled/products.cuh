// Products of tiles in shared memory, by multiply-adds of fp32. Addresses are bytes.
#pragma once

#include "longfold/kernels/cuda/tiled/long_sum.cuh"
#include "longfold/kernels/cuda/tiled/tile.cuh"

namespace longfold::kernels::cuda::tiled {

// For each logit of this thread the sum over d, in order, of its row of `rows` times its row of `columns`.
template <int D>
__device__ __forceinline__ void multiply(typename Tile<D>::Logits& sums, const Place<D>& place, uint32_t rows,
                                         uint32_t columns) {
  using Tile = Tile<D>;
  rows += place.down * Tile::kPitch;
  columns += place.across * Tile::kPitch;
#pragma unroll
  for (int r = 0; r < kRowsOfThread; ++r) {
#pragma unroll
    for (int c = 0; c < Tile::kColumnsOfThread; ++c) sums[r][c] = 0;
  }
#pragma unroll 4
  for (int d = 0; d < D; d += 4) {
    float4 of_row[kRowsOfThread];
#pragma unroll
    for (int r = 0; r < kRowsOfThread; ++r) {
      of_row[r] = ptx::load_shared<float4>(rows + r * Tile::kLanesDown * Tile::kPitch + 4 * d);
    }
#pragma unroll
    for (int c = 0; c < Tile::kColumnsOfThread; ++c) {
      const auto of_column = ptx::load_shared<float4>(columns + c * Tile::kLanesAcross * Tile::kPitch + 4 * d);
#pragma unroll
      for (int r = 0; r < kRowsOfThread; ++r) {
        float& sum = sums[r][c];
        sum = fmaf(of_row[r].x, of_column.x, sum);
        sum = fmaf(of_row[r].y, of_column.y, sum);
        sum = fmaf(of_row[r].z, of_column.z, sum);
        sum = fmaf(of_row[r].w, of_column.w, sum);
      }
    }
  }
}

// Weights in shared memory: of each row, first those of columns 0, kLanesAcross, ... of the first lane, as many as it
// stores at once, then of the next lane; where a lane has more, they follow those of the last lane.
template <int D>
__device__ __forceinline__ void store_weights(uint32_t to, const Place<D>& place,
                                              const typename Tile<D>::Logits& weights) {
  using Tile = Tile<D>;
#pragma unroll
  for (int r = 0; r < kRowsOfThread; ++r) {
    const uint32_t row = to + place.row(r) * Tile::kWeightsPitch;
    if constexpr (Tile::kColumnsOfThread == 2) {
      ptx::store_shared(row + 8 * place.across, weights[r][0]);
      ptx::store_shared(row + 8 * place.across + 4, weights[r][1]);
    } else {
#pragma unroll
      for (int c = 0; c < Tile::kColumnsOfThread; c += 4) {
        ptx::store_shared(row + 4 * c * Tile::kLanesAcross + 16 * place.across,
                          float4{weights[r][c], weights[r][c + 1], weights[r][c + 2], weights[r][c + 3]});
      }
    }
  }
}

// What this thread has stored.
template <int D>
__device__ __forceinline__ void load_weights(typename Tile<D>::Logits& weights, const Place<D>& place, uint32_t from) {
  using Tile = Tile<D>;
#pragma unroll
  for (int r = 0; r < kRowsOfThread; ++r) {
    const uint32_t row = from + place.row(r) * Tile::kWeightsPitch;
    if constexpr (Tile::kColumnsOfThread == 2) {
      weights[r][0] = ptx::load_shared<float>(row + 8 * place.across);
      weights[r][1] = ptx::load_shared<float>(row + 8 * place.across + 4);
    } else {
#pragma unroll
      for (int c = 0; c < Tile::kColumnsOfThread; c += 4) {
        const auto four = ptx::load_shared<float4>(row + 4 * c * Tile::kLanesAcross + 16 * place.across);
        weights[r][c] = four.x, weights[r][c + 1] = four.y, weights[r][c + 2] = four.z, weights[r][c + 3] = four.w;
      }
    }
  }
}

// The column of element e of the float4 `four` of a chunk's weights.
template <int D>
__device__ __forceinline__ int column_of(int four, int e) {
  constexpr int kLanesAcross = Tile<D>::kLanesAcross;
  if constexpr (Tile<D>::kColumnsOfThread == 2) return 2 * four + e / 2 + e % 2 * kLanesAcross;
  return four + e * kLanesAcross;
}

// The numbers of a row that belong to a thread, from its first one on.
template <int D>
__device__ __forceinline__ void load_dims(float (&to)[Tile<D>::kDimsOfThread], uint32_t from) {
  using Tile = Tile<D>;
#pragma unroll
  for (int e = 0; e < Tile::kDimsOfThread; e += Tile::kVector) {
    const uint32_t at = from + 4 * e * Tile::kLanesAcross;
    if constexpr (Tile::kVector == 4) {
      const auto four = ptx::load_shared<float4>(at);
      to[e] = four.x, to[e + 1] = four.y, to[e + 2] = four.z, to[e + 3] = four.w;
    } else if constexpr (Tile::kVector == 2) {
      const auto two = ptx::load_shared<float2>(at);
      to[e] = two.x, to[e + 1] = two.y;
    } else {
      to[e] = ptx::load_shared<float>(at);
    }
  }
}

// For each row the sum of its weights times rows of D numbers, over the kChain columns of a chunk. `weights` and
// `columns`: of this thread.
template <int D>
__device__ __forceinline__ void multiply_chunk(typename Tile<D>::Results& sums, uint32_t weights, uint32_t columns) {
  using Tile = Tile<D>;
#pragma unroll
  for (int r = 0; r < kRowsOfThread; ++r) {
#pragma unroll
    for (int d = 0; d < Tile::kDimsOfThread; ++d) sums[r][d] = 0;
  }
#pragma unroll 4
  for (int four = 0; four < kChain / 4; ++four) {
    float4 of_row[kRowsOfThread];
#pragma unroll
    for (int r = 0; r < kRowsOfThread; ++r) {
      of_row[r] = ptx::load_shared<float4>(weights + r * Tile::kLanesDown * Tile::kWeightsPitch + 16 * four);
    }
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      float of_column[Tile::kDimsOfThread];
      load_dims<D>(of_column, columns + column_of<D>(four, e) * Tile::kPitch);
#pragma unroll
      for (int r = 0; r < kRowsOfThread; ++r) {
        const float weight = e == 0 ? of_row[r].x : e == 1 ? of_row[r].y : e == 2 ? of_row[r].z : of_row[r].w;
#pragma unroll
        for (int d = 0; d < Tile::kDimsOfThread; ++d) sums[r][d] = fmaf(weight, of_column[d], sums[r][d]);
      }
    }
  }
}

// Adds to the results of each row the columns' rows of D numbers, times the weights that this warp has stored.
template <int D>
__device__ __forceinline__ void add_product(LongSum (&sums)[kRowsOfThread][Tile<D>::kDimsOfThread],
                                            const Place<D>& place, uint32_t weights, uint32_t columns) {
  using Tile = Tile<D>;
  weights += place.down * Tile::kWeightsPitch;
  columns += 4 * Tile::kVector * place.across;
  typename Tile::Results all;
  multiply_chunk<D>(all, weights, columns);
#pragma unroll
  for (int column = kChain; column < Tile::kColumns; column += kChain) {
    typename Tile::Results part;
    multiply_chunk<D>(part, weights + 4 * column, columns + column * Tile::kPitch);
#pragma unroll
    for (int r = 0; r < kRowsOfThread; ++r) {
#pragma unroll
      for (int d = 0; d < Tile::kDimsOfThread; ++d) all[r][d] += part[r][d];
    }
  }
#pragma unroll
  for (int r = 0; r < kRowsOfThread; ++r) {
#pragma unroll
    for (int d = 0; d < Tile::kDimsOfThread; ++d) sums[r][d].add(all[r][d]);
  }
}

}  // namespace longfold::kernels::cuda::tiled
