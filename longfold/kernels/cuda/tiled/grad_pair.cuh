// The logit gradients of a tile, summed over the rows n of a group in their order. Where each row is a group they are
// the gradients of a bias that differs from row to row.
#pragma once

#include "longfold/kernels/cuda/tiled/logit_gradients.cuh"

namespace longfold::kernels::cuda::tiled {

template <class T, int D>
struct GradPair : QueryTile<T, D> {
  using Base = QueryTile<T, D>;
  using typename Base::Params, typename Base::Tile;
  static constexpr int kBlocks = D <= 64 ? 3 : 2;

  __host__ __device__ static int64_t tiles(int64_t length, int64_t of) { return (length + of - 1) / of; }
  __host__ __device__ static int64_t count(const Params& params) {
    const Shape& shape = params.problem.shape;
    return params.pair_groups * shape.B * shape.H * tiles(shape.Lq, Tile::kRows) * tiles(shape.Lk, Tile::kColumns);
  }

  // Neighbours share their queries.
  __device__ __forceinline__ static void run(const Params& params, uint32_t shared) {
    const Shape& shape = params.problem.shape;
    const int64_t key_tiles = tiles(shape.Lk, Tile::kColumns), query_tiles = tiles(shape.Lq, Tile::kRows);
    for (int64_t index = blockIdx.x; index < count(params); index += gridDim.x) {
      const int64_t row = index / key_tiles / query_tiles;
      Corner corner{.b = row / shape.H % shape.B,
                    .n = 0,
                    .h = row % shape.H,
                    .query = static_cast<int>(index / key_tiles % query_tiles) * Tile::kRows,
                    .key = static_cast<int>(index % key_tiles) * Tile::kColumns,
                    .queries_left = 0,
                    .keys_left = 0};
      corner.queries_left = static_cast<int>(shape.Lq) - corner.query;
      corner.keys_left = static_cast<int>(shape.Lk) - corner.key;
      run_item(params, corner, row / shape.H / shape.B, shared);
    }
  }

 private:
  __device__ __forceinline__ static void run_item(const Params& params, Corner corner, int64_t group, uint32_t shared) {
    const Shape& shape = params.problem.shape;
    const Place<D> place;
    LongSum sums[kRowsOfThread][Tile::kColumnsOfThread];
    corner.n = shape.N * group / params.pair_groups;
    const auto rows = static_cast<int>(shape.N * (group + 1) / params.pair_groups - corner.n);
    for (int row = 0; row < rows; ++row, ++corner.n) {
      ptx::sync_block();
      Base::copy_queries(params, corner, shared);
      Base::copy_keys(params, corner, shared);
      copy_statistics<Tile::kRows>(shared + Base::kStatisticsAt, params, corner);
      ptx::sync_block();
      typename Tile::Logits gradients;
      Base::make_logit_gradients(params, corner, place, shared, gradients);
      const bool settles = row % kTermsToSettle == kTermsToSettle - 1;
#pragma unroll
      for (int r = 0; r < kRowsOfThread; ++r) {
#pragma unroll
        for (int c = 0; c < Tile::kColumnsOfThread; ++c) {
          sums[r][c].add(gradients[r][c]);
          if (settles) sums[r][c].settle();
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kRowsOfThread; ++r) {
#pragma unroll
      for (int c = 0; c < Tile::kColumnsOfThread; ++c) {
        if (place.row(r) >= corner.queries_left || place.column(c) >= corner.keys_left) continue;
        float* const to =
            params.pair_sums.at(group, corner.b, corner.h, corner.query + place.row(r), corner.key + place.column(c));
        if (params.adds_to_pair_sums) sums[r][c].add(*to);
        *to = sums[r][c].value();
      }
    }
  }
};

}  // namespace longfold::kernels::cuda::tiled
