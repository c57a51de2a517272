// The producers' side of forward and grad_q: for each item the queries of its rows n, then tiles of keys, values, pair
// bias and masks.
#pragma once

#include "longfold/kernels/cuda/mma/items.cuh"
#include "longfold/kernels/cuda/mma/mask.cuh"

namespace longfold::kernels::cuda::mma {

// How a stage holds them; in one of queries, these take the place of the keys and values.
//
// ForWarpgroups: hidden keys are told by a column of numbers too, see wgmma/products.cuh; tiles may be wider than rows,
// what is beyond becomes zero; and there are tensor maps.
template <int HeadDim, BiasForm Form, int NumRows, int Queries, bool ForWarpgroups = false, int Wide = HeadDim>
class KeyTiles {
 public:
  using QueryTile = Tile<Queries, 2 * Wide>;
  using KeyTile = Tile<kTileKeys, 2 * Wide>;
  using PairTile = BiasTile<Form, Queries, kTileKeys>;
  static constexpr int kQueryBytes = round_up(NumRows * QueryTile::kBytes, 1024);
  static constexpr int kBiasAt =
      larger_of(round_up(NumRows * 2 * KeyTile::kBytes, 1024), ForWarpgroups ? 0 : kQueryBytes);
  static constexpr int kMaskAt = kBiasAt + PairTile::kBytes;
  static constexpr int kColumnAt = round_up(kMaskAt + NumRows * kMaskBytes, 1024);
  static constexpr int kStageBytes = round_up(kColumnAt + (ForWarpgroups ? NumRows * ColumnTile::kBytes : 0), 1024);
  static_assert(NumRows < kProducers, "each producer warp but the last brings the keys of one row");
  using ThisItem = Item<NumRows, Queries>;

  static __device__ uint32_t queries(uint32_t stage, int row, int first) {
    return stage + row * QueryTile::kBytes + first * QueryTile::kChunk;
  }
  static __device__ uint32_t keys(uint32_t stage, int row) { return stage + 2 * row * KeyTile::kBytes; }
  static __device__ uint32_t values(uint32_t stage, int row) { return keys(stage, row) + KeyTile::kBytes; }
  static __device__ uint32_t mask(uint32_t stage, int row) { return stage + kMaskAt + row * kMaskBytes; }
  static __device__ uint32_t column(uint32_t stage, int row) { return stage + kColumnAt + row * ColumnTile::kBytes; }
  static __device__ uint32_t bias(uint32_t stage, int first) { return stage + kBiasAt + first * PairTile::kChunk; }

  // By one thread of a block, as early as can be. Not the first one: it makes the barriers.
  static __device__ __forceinline__ void prefetch_maps(const Problem& p) {
    if (threadIdx.x != kLanes) return;
    ptx::prefetch_map(&p.maps.q);
    ptx::prefetch_map(&p.maps.k);
    ptx::prefetch_map(&p.maps.v);
    if (Form != BiasForm::kNone) ptx::prefetch_map(&p.maps.pair);
  }

  template <class Stages>
  static __device__ __forceinline__ void load_queries(const Producer& producer, const Problem& p, const Rows& rows,
                                                      const TensorMap& map, const ThisItem& item, Stages& ring) {
    ring.wait_until_empty();
    if (!ForWarpgroups && !p.maps.are_used) {
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

  // All that comes for an item, but its queries. The first warps bring keys and values, each of one row n, and the last
  // warp the pair bias. Masks come by warps that have nothing else to bring, where there is one for each row: a block's
  // first tile waits for its mask longest.
  template <class T, class Stages>
  static __device__ __forceinline__ void load_keys(const Producer& producer, const Problem& p, const ThisItem& item,
                                                   Stages& ring) {
    if (!ForWarpgroups && !p.maps.are_used)
      load_keys_by_all<T>(producer, p, item, ring);
    else if (producer.warp < NumRows)
      copy_keys<T, !kMasksApart>(producer.warp, p, item, ring);
    else if (kMasksApart && producer.warp < 2 * NumRows)
      bring_masks<T>(producer.warp - NumRows, p, item, ring);
    else
      copy_bias(producer.warp == kProducers - 1, p, item, ring);
  }

 private:
  template <class T>
  static __device__ __forceinline__ void store_masks(MaskReader& masks, uint32_t stage, int row, const Problem& p,
                                                     int num_keys) {
    const float2 hidden = masks.store_next(mask(stage, row), p, num_keys);
    if constexpr (ForWarpgroups) store_column<T>(column(stage, row), hidden);
  }

  static constexpr bool kMasksApart = 2 * NumRows < kProducers;

  static __device__ __forceinline__ MaskReader reader(int row, const Problem& p, const ThisItem& item) {
    return MaskReader(p, bias_offset(p.mask, item.b, min(item.n + row, p.N - 1), item.h));
  }

  template <class T, class Stages>
  static __device__ __forceinline__ void bring_masks(int row, const Problem& p, const ThisItem& item, Stages& ring) {
    MaskReader masks = reader(row, p, item);
#pragma unroll 1
    for (int key = 0; key < p.Lk; key += kTileKeys) {
      ring.wait_until_empty();
      store_masks<T>(masks, ring.stage(), row, p, p.Lk - key);
      ring.hand_over();
    }
  }

  template <class T, bool WithMasks, class Stages>
  static __device__ __forceinline__ void copy_keys(int row, const Problem& p, const ThisItem& item, Stages& ring) {
    const auto copy = [&](int key) {
      ring.wait_until_empty();
      if (!ptx::elect()) return;
      const uint32_t stage = ring.stage(), barrier = ring.barrier();
      ptx::expect_bytes(barrier, 2 * KeyTile::kBytes);
      copy_rows<KeyTile>(keys(stage, row), barrier, p.k, p.maps.k, item.b, item.n + row, item.h, key);
      copy_rows<KeyTile>(values(stage, row), barrier, p.v, p.maps.v, item.b, item.n + row, item.h, key);
    };
    if constexpr (WithMasks) {
      copy(0);  // on its way while the mask's first values come
      MaskReader masks = reader(row, p, item);
#pragma unroll 1
      for (int key = 0; key < p.Lk; key += kTileKeys) {
        if (key > 0) copy(key);
        store_masks<T>(masks, ring.stage(), row, p, p.Lk - key);
        ring.hand_over();
      }
    } else {
#pragma unroll 1
      for (int key = 0; key < p.Lk; key += kTileKeys) {
        copy(key);
        ring.hand_over();
      }
    }
  }

  template <class Stages>
  static __device__ __forceinline__ void copy_bias(bool copies, const Problem& p, const ThisItem& item, Stages& ring) {
#pragma unroll 1
    for (int key = 0; key < p.Lk; key += kTileKeys) {
      ring.wait_until_empty();
      if (Form != BiasForm::kNone && copies && ptx::elect()) {
        ptx::expect_bytes(ring.barrier(), PairTile::kBytes);
        copy_pair_bias<Form, Queries, kTileKeys>(ring.stage() + kBiasAt, ring.barrier(), p, item.b, item.n, item.h,
                                                 item.first, key);
      }
      ring.hand_over();
    }
  }

  template <class T, class Stages>
  static __device__ __forceinline__ void load_keys_by_all(const Producer& producer, const Problem& p,
                                                          const ThisItem& item, Stages& ring) {
    const int row = min(producer.warp, NumRows - 1);
    MaskReader masks(p, bias_offset(p.mask, item.b, min(item.n + row, p.N - 1), item.h));
#pragma unroll 1
    for (int key = 0; key < p.Lk; key += kTileKeys) {
      ring.wait_until_empty();
      const uint32_t stage = ring.stage();
      load_pair_bias<Form, Queries, kTileKeys>(producer, stage + kBiasAt, p, item.b, item.n, item.h, item.first, key);
#pragma unroll 1
      for (int r = 0; r < NumRows; ++r) {
        load_rows<KeyTile>(producer, keys(stage, r), p.k, p, item.b, item.n + r, item.h, key, p.Lk);
        load_rows<KeyTile>(producer, values(stage, r), p.v, p, item.b, item.n + r, item.h, key, p.Lk);
      }
      if (producer.warp < NumRows) store_masks<T>(masks, stage, row, p, p.Lk - key);
      ring.hand_over();
    }
  }
};

}  // namespace longfold::kernels::cuda::mma
