// What blocks of the pair gradient work on, and where their sums go.
#pragma once

#include "longfold/kernels/cuda/mma/ring.cuh"

namespace longfold::kernels::cuda::mma {

// A tile of Queries by Keys, and the rows n of a group.
template <int Queries, int Keys>
struct PairItem {
  int b, h, query, key, begin, end, group;  // rows n from begin to end

  __device__ PairItem(const BackwardParams& params, uint32_t index) {
    const Problem& p = params.problem;
    const uint32_t queries = (p.Lq + Queries - 1) / Queries, keys = (p.Lk + Keys - 1) / Keys;
    key = static_cast<int>(index % keys) * Keys;
    index /= keys;
    query = static_cast<int>(index % queries) * Queries;
    index /= queries;
    group = static_cast<int>(index % params.pair_groups);
    index /= params.pair_groups;
    h = static_cast<int>(index % p.H);
    b = static_cast<int>(index / p.H);
    const int rows = (p.N + params.pair_groups - 1) / params.pair_groups;
    begin = group * rows;
    end = min(begin + rows, p.N);
  }

  __host__ __device__ static int64_t count(const BackwardParams& params) {
    const Problem& p = params.problem;
    return int64_t{p.B} * p.H * params.pair_groups * ((p.Lq + Queries - 1) / Queries) * ((p.Lk + Keys - 1) / Keys);
  }
};

// Of 16 queries by 8 * Tiles keys, from query and key on.
template <int Tiles, class Item>
__device__ __forceinline__ void finish_grad_pair(const BackwardParams& params, const float (&sums)[Tiles][4],
                                                 const Item& item, int query, int key) {
  const Problem& p = params.problem;
  const int64_t* strides = params.pair_strides;
  float* const plane = params.pair_sums + item.group * strides[0] + item.b * strides[1] + item.h * strides[2];
  const bool in_twos = (reinterpret_cast<uintptr_t>(plane) / 4 | strides[3] | p.Lk) % 2 == 0;
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    const int i = query + 8 * row + lane_of_warp() / 4;
    if (i >= p.Lq) continue;
#pragma unroll
    for (int t = 0; t < Tiles; ++t) {
      const int j = key + 8 * t + lane_of_warp() % 4 * 2;
      float* const to = plane + i * strides[3] + j;
      const float x = sums[t][2 * row], y = sums[t][2 * row + 1];
      if (in_twos && j < p.Lk) {
        *reinterpret_cast<float2*>(to) = float2{x, y};
      } else {
        if (j < p.Lk) to[0] = x;
        if (j + 1 < p.Lk) to[1] = y;
      }
    }
  }
}

}  // namespace longfold::kernels::cuda::mma
