// The producers' side of forward and grad_q: for each item the queries of its rows n, then tiles of keys, values, pair
// bias and masks.
#pragma once

#include "longfold/kernels/cuda/mma/items.cuh"
#include "longfold/kernels/cuda/mma/mask.cuh"

namespace longfold::kernels::cuda::mma {

// How a stage holds them; in one of queries, these take the place of the keys and values.
template <int HeadDim, BiasForm Form, int NumRows, int Queries>
struct KeyTiles {
  using QueryTile = Tile<Queries, 2 * HeadDim>;
  using KeyTile = Tile<kTileKeys, 2 * HeadDim>;
  using PairTile = BiasTile<Form, Queries, kTileKeys>;
  static constexpr int kBiasAt = round_up(NumRows * larger_of(2 * KeyTile::kBytes, QueryTile::kBytes), 1024);
  static constexpr int kMaskAt = kBiasAt + PairTile::kBytes;
  static constexpr int kStageBytes = round_up(kMaskAt + NumRows * kMaskBytes, 1024);
  static_assert(NumRows <= kProducers, "each producer warp brings the masks of one row");
  using ThisItem = Item<NumRows, Queries>;

  static __device__ uint32_t queries(uint32_t stage, int row, int first) {
    return stage + row * QueryTile::kBytes + first * QueryTile::kChunk;
  }
  static __device__ uint32_t keys(uint32_t stage, int row) { return stage + 2 * row * KeyTile::kBytes; }
  static __device__ uint32_t values(uint32_t stage, int row) { return keys(stage, row) + KeyTile::kBytes; }
  static __device__ uint32_t mask(uint32_t stage, int row) { return stage + kMaskAt + row * kMaskBytes; }
  static __device__ uint32_t bias(uint32_t stage, int first) { return stage + kBiasAt + first * PairTile::kChunk; }

  template <class Stages>
  static __device__ void load_queries(const Producer& producer, const Problem& p, const Rows& rows,
                                      const TensorMap& map, const ThisItem& item, Stages& ring) {
    ring.wait_until_empty();
    if (!p.maps.are_used) {
      for (int r = 0; r < NumRows; ++r) {
        load_rows<QueryTile>(producer, queries(ring.stage(), r, 0), rows, p, item.b, item.n + r, item.h, item.first,
                             p.Lq);
      }
    } else if (producer.warp < NumRows && ptx::elect()) {
      ptx::expect_bytes(ring.barrier(), QueryTile::kBytes);
      copy_rows<QueryTile>(queries(ring.stage(), producer.warp, 0), ring.barrier(), rows, map, item.b,
                           item.n + producer.warp, item.h, item.first);
    }
    ring.hand_over();
  }

  // All that comes for an item, but its queries.
  template <class Stages>
  static __device__ void load_keys(const Producer& producer, const Problem& p, const ThisItem& item, Stages& ring) {
    const int row = min(producer.warp, NumRows - 1);
    MaskReader mask_reader(p, bias_offset(p.mask, item.b, min(item.n + row, p.N - 1), item.h));
    for (int key = 0; key < p.Lk; key += kTileKeys) {
      ring.wait_until_empty();
      const uint32_t stage = ring.stage(), barrier = ring.barrier();
      if (!p.maps.are_used) {
        load_pair_bias<Form, Queries, kTileKeys>(producer, stage + kBiasAt, p, item.b, item.n, item.h, item.first, key);
        for (int r = 0; r < NumRows; ++r) {
          load_rows<KeyTile>(producer, keys(stage, r), p.k, p, item.b, item.n + r, item.h, key, p.Lk);
          load_rows<KeyTile>(producer, values(stage, r), p.v, p, item.b, item.n + r, item.h, key, p.Lk);
        }
      } else {
        if (producer.warp < NumRows && ptx::elect()) {
          ptx::expect_bytes(barrier, 2 * KeyTile::kBytes);
          copy_rows<KeyTile>(keys(stage, row), barrier, p.k, p.maps.k, item.b, item.n + row, item.h, key);
          copy_rows<KeyTile>(values(stage, row), barrier, p.v, p.maps.v, item.b, item.n + row, item.h, key);
        }
        if (Form != BiasForm::kNone && producer.warp == kProducers - 1 && ptx::elect()) {
          ptx::expect_bytes(barrier, PairTile::kBytes);
          copy_pair_bias<Form, Queries, kTileKeys>(stage + kBiasAt, barrier, p, item.b, item.n, item.h, item.first,
                                                   key);
        }
      }
      if (producer.warp < NumRows) mask_reader.store_next(mask(stage, row), p, key);
      ring.hand_over();
    }
  }
};

}  // namespace longfold::kernels::cuda::mma
