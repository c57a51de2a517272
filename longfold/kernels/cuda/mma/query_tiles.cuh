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
  static __device__ void load_keys(const Producer& producer, const Problem& p, const Rows& rows, const TensorMap* map,
                                   const ThisItem& item, Stages& ring) {
    ring.wait_until_empty();
#pragma unroll
    for (int r = 0; r < NumRows; ++r) {
      load_rows<KeyTile>(producer, keys(ring.stage(), r, 0), ring.barrier(), rows, map, p, item.b, item.n + r, item.h,
                         item.first, p.Lk);
    }
    ring.hand_over();
  }

  template <class Stages>
  static __device__ void load_item(const Producer& producer, const BackwardParams& params, const ThisItem& item,
                                   Stages& ring) {
    const Problem& p = params.problem;
    load_keys(producer, p, p.k, p.maps.has_k ? &p.maps.k : nullptr, item, ring);
    load_keys(producer, p, p.v, p.maps.has_v ? &p.maps.v : nullptr, item, ring);
    const TensorMap* q_map = p.maps.has_q ? &p.maps.q : nullptr;
    const TensorMap* grad_map = p.maps.has_grad_out ? &p.maps.grad_out : nullptr;
    for (int query = 0; query < p.Lq; query += kTileKeys) {
      ring.wait_until_empty();
      const uint32_t stage = ring.stage();
      load_pair_bias<Form, kTileKeys, Keys>(producer, bias(stage), ring.barrier(), p, item.b, item.n, item.h, query,
                                            item.first);
#pragma unroll
      for (int r = 0; r < NumRows; ++r) {
        load_rows<QueryTile>(producer, queries(stage, r), ring.barrier(), p.q, q_map, p, item.b, item.n + r, item.h,
                             query, p.Lq);
        load_rows<QueryTile>(producer, grad_out(stage, r), ring.barrier(), params.grad_out, grad_map, p, item.b,
                             item.n + r, item.h, query, p.Lq);
      }
      if (producer.warp < NumRows) {
        load_statistics(statistics(stage, producer.warp), params, item.b, min(item.n + producer.warp, p.N - 1), item.h,
                        query, 1);
      }
      ring.hand_over();
    }
  }
};

}  // namespace longfold::kernels::cuda::mma
