// Tiles of queries on their way to grad_kv: queries, gradients of outputs, statistics, pair bias; before them, for each
// item, its keys and values.
#pragma once

#include "longfold/kernels/cuda/mma/items.cuh"
#include "longfold/kernels/cuda/mma/statistics.cuh"

namespace longfold::kernels::cuda::mma {

// How a stage holds them; in one of keys or values, these take the place of the queries.
template <int HeadDim, BiasForm Form, int NumRows, int Keys>
struct QueryTiles {
  using QueryTile = Tile<kTileKeys, 2 * HeadDim>;
  using KeyTile = Tile<Keys, 2 * HeadDim>;
  using PairTile = BiasTile<Form, kTileKeys, Keys>;
  static constexpr int kBiasAt = round_up(NumRows * larger_of(2 * QueryTile::kBytes, KeyTile::kBytes), 1024);
  static constexpr int kStatisticsAt = kBiasAt + PairTile::kBytes;
  static constexpr int kStageBytes = round_up(kStatisticsAt + NumRows * kStatisticsBytes, 1024);
  static_assert(kTileKeys == kStatisticsBlock);
  static_assert(NumRows <= kProducers, "each producer warp brings the statistics of one row");
  using ThisItem = Item<NumRows, Keys>;

  static __device__ uint32_t keys(uint32_t stage, int row, int first) {
    return stage + row * KeyTile::kBytes + first * KeyTile::kChunk;
  }
  static __device__ uint32_t queries(uint32_t stage, int row) { return stage + 2 * row * QueryTile::kBytes; }
  static __device__ uint32_t grad_out(uint32_t stage, int row) { return queries(stage, row) + QueryTile::kBytes; }
  static __device__ uint32_t bias(uint32_t stage) { return stage + kBiasAt; }
  static __device__ uint32_t statistics(uint32_t stage, int row) {
    return stage + kStatisticsAt + row * kStatisticsBytes;
  }

  template <class Stages>
  static __device__ void load_keys(const Producer& producer, const Problem& p, const Rows& rows, const TensorMap& map,
                                   const ThisItem& item, Stages& ring) {
    ring.wait_until_empty();
    if (!p.maps.are_used) {
      for (int r = 0; r < NumRows; ++r) {
        load_rows<KeyTile>(producer, keys(ring.stage(), r, 0), rows, p, item.b, item.n + r, item.h, item.first, p.Lk);
      }
    } else if (producer.warp < NumRows && ptx::elect()) {
      ptx::expect_bytes(ring.barrier(), KeyTile::kBytes);
      copy_rows<KeyTile>(keys(ring.stage(), producer.warp, 0), ring.barrier(), rows, map, item.b,
                         item.n + producer.warp, item.h, item.first);
    }
    ring.hand_over();
  }

  template <class Stages>
  static __device__ void load_item(const Producer& producer, const BackwardParams& params, const ThisItem& item,
                                   Stages& ring) {
    const Problem& p = params.problem;
    load_keys(producer, p, p.k, p.maps.k, item, ring);
    load_keys(producer, p, p.v, p.maps.v, item, ring);
    // The statistics come through the last warps, since the first ones copy tiles; read while the tile before is used.
    const int row = producer.warp - (kProducers - NumRows), n = min(item.n + max(row, 0), p.N - 1);
    const float shift = shift_of_row(p.mask, bias_offset(p.mask, item.b, n, item.h), p.Lk);
    StatisticsReader reader;
    reader.read(params, item.b, n, item.h, 0);
    for (int query = 0; query < p.Lq; query += kTileKeys) {
      ring.wait_until_empty();
      const uint32_t stage = ring.stage(), barrier = ring.barrier();
      if (!p.maps.are_used) {
        load_pair_bias<Form, kTileKeys, Keys>(producer, bias(stage), p, item.b, item.n, item.h, query, item.first);
        for (int r = 0; r < NumRows; ++r) {
          load_rows<QueryTile>(producer, queries(stage, r), p.q, p, item.b, item.n + r, item.h, query, p.Lq);
          load_rows<QueryTile>(producer, grad_out(stage, r), params.grad_out, p, item.b, item.n + r, item.h, query,
                               p.Lq);
        }
      } else {
        const int r = producer.warp;
        if (r < NumRows && ptx::elect()) {
          ptx::expect_bytes(barrier, 2 * QueryTile::kBytes);
          copy_rows<QueryTile>(queries(stage, r), barrier, p.q, p.maps.q, item.b, item.n + r, item.h, query);
          copy_rows<QueryTile>(grad_out(stage, r), barrier, params.grad_out, p.maps.grad_out, item.b, item.n + r,
                               item.h, query);
        }
        if (Form != BiasForm::kNone && r == kProducers - 1 && ptx::elect()) {
          ptx::expect_bytes(barrier, PairTile::kBytes);
          copy_pair_bias<Form, kTileKeys, Keys>(bias(stage), barrier, p, item.b, item.n, item.h, query, item.first);
        }
      }
      if (row >= 0) {
        reader.store(statistics(stage, row), params, shift);
        reader.read(params, item.b, n, item.h, query + kTileKeys);
      }
      ring.hand_over();
    }
  }
};

}  // namespace longfold::kernels::cuda::mma
