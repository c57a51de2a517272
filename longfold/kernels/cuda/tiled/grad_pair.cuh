// The logit gradients of a tile, summed over the rows n of a group, and over batches and heads that share the sum, in
// their order. Where each row is a group they are the gradient of a bias that differs from row to row.
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
    const PairSums& sums = params.pair_sums;
    return sums.groups * sums.B * sums.H * tiles(shape.Lq, Tile::kRows) * tiles(shape.Lk, Tile::kColumns);
  }

  // Neighbours share their queries.
  __device__ __forceinline__ static void run(const Params& params, uint32_t shared) {
    const Shape& shape = params.problem.shape;
    const PairSums& sums = params.pair_sums;
    const int64_t key_tiles = tiles(shape.Lk, Tile::kColumns), query_tiles = tiles(shape.Lq, Tile::kRows);
    for (int64_t index = blockIdx.x; index < count(params); index += gridDim.x) {
      const int64_t row = index / key_tiles / query_tiles;
      Corner corner{.b = row / sums.H % sums.B,
                    .n = 0,
                    .h = row % sums.H,
                    .query = static_cast<int>(index / key_tiles % query_tiles) * Tile::kRows,
                    .key = static_cast<int>(index % key_tiles) * Tile::kColumns,
                    .queries_left = 0,
                    .keys_left = 0};
      corner.queries_left = static_cast<int>(shape.Lq) - corner.query;
      corner.keys_left = static_cast<int>(shape.Lk) - corner.key;
      run_item(params, corner, row / sums.H / sums.B, shared);
    }
  }

 private:
  using Sums = LongSum[kRowsOfThread][Tile::kColumnsOfThread];

  __device__ __forceinline__ static void run_item(const Params& params, const Corner& first, int64_t group,
                                                  uint32_t shared) {
    const Shape& shape = params.problem.shape;
    const PairSums& to = params.pair_sums;
    const Place<D> place;
    Sums sums;
    Corner corner = first;
    const int64_t end_b = to.B == 1 ? shape.B : first.b + 1, end_h = to.H == 1 ? shape.H : first.h + 1,
                  end_n = shape.N * (group + 1) / to.groups;
    int terms = 0;
    for (corner.b = first.b; corner.b < end_b; ++corner.b) {
      for (corner.h = first.h; corner.h < end_h; ++corner.h) {
        for (corner.n = shape.N * group / to.groups; corner.n < end_n; ++corner.n) {
          add_row(params, corner, place, shared, sums, ++terms % kTermsToSettle == 0);
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kRowsOfThread; ++r) {
#pragma unroll
      for (int c = 0; c < Tile::kColumnsOfThread; ++c) {
        if (place.row(r) >= first.queries_left || place.column(c) >= first.keys_left) continue;
        float* const at = to.view.at(group, first.b, first.h, first.query + place.row(r), first.key + place.column(c));
        if (to.adds) sums[r][c].add(*at);
        *at = sums[r][c].value();
      }
    }
  }

  __device__ __forceinline__ static void add_row(const Params& params, const Corner& corner, const Place<D>& place,
                                                 uint32_t shared, Sums& sums, bool settles) {
    ptx::sync_block();
    Base::copy_queries(params, corner, shared);
    Base::copy_keys(params, corner, shared);
    copy_statistics<Tile::kRows>(shared + Base::kStatisticsAt, params, corner);
    ptx::sync_block();
    typename Tile::Logits gradients;
    Base::make_logit_gradients(params, corner, place, shared, gradients);
#pragma unroll
    for (int r = 0; r < kRowsOfThread; ++r) {
#pragma unroll
      for (int c = 0; c < Tile::kColumnsOfThread; ++c) sums[r][c].add(gradients[r][c]);
    }
    if (!settles) return;
#pragma unroll
    for (int r = 0; r < kRowsOfThread; ++r) {
#pragma unroll
      for (int c = 0; c < Tile::kColumnsOfThread; ++c) sums[r][c].settle();
    }
  }
};

}  // namespace longfold::kernels::cuda::tiled
