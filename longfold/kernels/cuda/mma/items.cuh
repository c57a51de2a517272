// What blocks work on: `Positions` queries (grad_kv: keys) of `Rows` rows n of one b and h. Blocks go through items in
// turn. Neighbours share their rows n, whose keys and values then come from the L2 cache, as the pair bias of a head
// does.
#pragma once

#include "longfold/kernels/cuda/mma/params.h"

namespace longfold::kernels::cuda::mma {

template <int Rows, int Positions>
struct Item {
  int b, h, n, first;

  __device__ Item(const Problem& p, int length, uint32_t index) {
    const uint32_t tiles = (length + Positions - 1) / Positions, groups = (p.N + Rows - 1) / Rows;
    first = static_cast<int>(index % tiles) * Positions;
    index /= tiles;
    n = static_cast<int>(index % groups) * Rows;
    index /= groups;
    h = static_cast<int>(index % p.H);
    b = static_cast<int>(index / p.H);
  }

  __host__ __device__ static int64_t count(const Problem& p, int length) {
    return int64_t{p.B} * p.H * ((p.N + Rows - 1) / Rows) * ((length + Positions - 1) / Positions);
  }
};

}  // namespace longfold::kernels::cuda::mma
