// What blocks work on: `Positions` queries (grad_kv: keys) of one b, n and h. Neighbours share n and h, whose keys and
// values then come from the L2 cache, and next to these the h, whose pair bias does.
#pragma once

#include "longfold/kernels/cuda/plain/arguments.cuh"

namespace longfold::kernels::cuda::tiled {

template <int Positions>
struct Item {
  int64_t b, n, h;
  int first, left;  // positions from the first one on

  __device__ __forceinline__ Item(const Shape& shape, int64_t length, int64_t index) {
    const int64_t tiles = (length + Positions - 1) / Positions;
    first = static_cast<int>(index % tiles) * Positions;
    left = static_cast<int>(length) - first;
    index /= tiles;
    n = index % shape.N;
    index /= shape.N;
    h = index % shape.H;
    b = index / shape.H;
  }

  __host__ __device__ static int64_t count(const Shape& shape, int64_t length) {
    return shape.B * shape.N * shape.H * ((length + Positions - 1) / Positions);
  }
};

}  // namespace longfold::kernels::cuda::tiled
