// Tiles of queries on their way to grad_kv: queries, gradients of outputs, statistics, pair bias; before them, for each
// item, its keys and values.
#pragma once

#include "longfold/kernels/cuda/mma/items.cuh"
#include "longfold/kernels/cuda/mma/statistics.cuh"

namespace longfold::kernels::cuda::mma {

// How a stage holds them; in one of keys or values, these take the place of the queries.
//
// ForWarpgroups: tiles may be wider than rows, what is beyond becomes zero; there are tensor maps, and no query is
// uniform.
template <int HeadDim, BiasForm Form, int NumRows, int Keys, bool ForWarpgroups = false, int Wide = HeadDim>
class QueryTiles {
 public:
  using QueryTile = Tile<kTileKeys, 2 * Wide>;
  using KeyTile = Tile<Keys, 2 * Wide>;
  using PairTile = BiasTile<Form, kTileKeys, Keys>;
  static constexpr int kKeyBytes = round_up(NumRows * KeyTile::kBytes, 1024);
  static constexpr int kBiasAt =
      larger_of(round_up(NumRows * 2 * QueryTile::kBytes, 1024), ForWarpgroups ? 0 : kKeyBytes);
  static constexpr int kStatisticsAt = kBiasAt + PairTile::kBytes;
  static constexpr int kRowStatistics = ForWarpgroups ? ColumnTile::kBytes : kStatisticsBytes;
  static constexpr int kStageBytes = round_up(kStatisticsAt + NumRows * kRowStatistics, 1024);
  static_assert(kTileKeys == kStatisticsBlock);
  static_assert(NumRows < kProducers, "each producer warp but the last brings the statistics of one row");
  using ThisItem = Item<NumRows, Keys>;

  static __device__ uint32_t keys(uint32_t stage, int row, int first) {
    return stage + row * KeyTile::kBytes + first * KeyTile::kChunk;
  }
  static __device__ uint32_t queries(uint32_t stage, int row) { return stage + 2 * row * QueryTile::kBytes; }
  static __device__ uint32_t grad_out(uint32_t stage, int row) { return queries(stage, row) + QueryTile::kBytes; }
  static __device__ uint32_t bias(uint32_t stage) { return stage + kBiasAt; }
  static __device__ uint32_t statistics(uint32_t stage, int row) {
    return stage + kStatisticsAt + row * kRowStatistics;
  }

  template <class Stages>
  static __device__ __forceinline__ void load_keys(const Producer& producer, const Problem& p, const Rows& rows,
                                                   const TensorMap& map, const ThisItem& item, Stages& ring) {
    ring.wait_until_empty();
    if (!ForWarpgroups && !p.maps.are_used) {
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

  // All that comes for an item, but its keys and values. The first warps bring queries, output gradients and
  // statistics, each of one row n, and the last warp the pair bias.
  template <class Stages>
  static __device__ __forceinline__ void load_queries(const Producer& producer, const BackwardParams& params,
                                                      const ThisItem& item, Stages& ring) {
    if (!ForWarpgroups && !params.problem.maps.are_used)
      load_queries_by_all(producer, params, item, ring);
    else if (producer.warp < NumRows)
      copy_queries(producer.warp, params, item, ring);
    else
      copy_bias(producer.warp == kProducers - 1, params.problem, item, ring);
  }

 private:
  template <class Stages>
  static __device__ __forceinline__ void copy_queries(int row, const BackwardParams& params, const ThisItem& item,
                                                      Stages& ring) {
    const Problem& p = params.problem;
    [[maybe_unused]] const int n = min(item.n + row, p.N - 1);
    [[maybe_unused]] StatisticsReader reader;
    if constexpr (!ForWarpgroups) reader.read(params, item.b, n, item.h, 0);
#pragma unroll 1
    for (int query = 0; query < p.Lq; query += kTileKeys) {
      ring.wait_until_empty();
      const uint32_t stage = ring.stage(), barrier = ring.barrier();
      if (ptx::elect()) {
        ptx::expect_bytes(barrier, 2 * QueryTile::kBytes + (ForWarpgroups ? ColumnTile::kBytes : 0));
        copy_rows<QueryTile>(queries(stage, row), barrier, p.q, p.maps.q, item.b, item.n + row, item.h, query);
        copy_rows<QueryTile>(grad_out(stage, row), barrier, params.grad_out, p.maps.grad_out, item.b, item.n + row,
                             item.h, query);
        if constexpr (ForWarpgroups) {
          copy_rows<ColumnTile>(statistics(stage, row), barrier, params.columns, p.maps.columns, item.b, item.n + row,
                                item.h, query);
        }
      }
      if constexpr (!ForWarpgroups) {
        reader.store(statistics(stage, row));
        reader.read(params, item.b, n, item.h, query + kTileKeys);
      }
      ring.hand_over();
    }
  }

  template <class Stages>
  static __device__ __forceinline__ void copy_bias(bool copies, const Problem& p, const ThisItem& item, Stages& ring) {
#pragma unroll 1
    for (int query = 0; query < p.Lq; query += kTileKeys) {
      ring.wait_until_empty();
      if (Form != BiasForm::kNone && copies && ptx::elect()) {
        ptx::expect_bytes(ring.barrier(), PairTile::kBytes);
        copy_pair_bias<Form, kTileKeys, Keys>(bias(ring.stage()), ring.barrier(), p, item.b, item.n, item.h, query,
                                              item.first);
      }
      ring.hand_over();
    }
  }

  template <class Stages>
  static __device__ __forceinline__ void load_queries_by_all(const Producer& producer, const BackwardParams& params,
                                                             const ThisItem& item, Stages& ring) {
    const Problem& p = params.problem;
    const int row = min(producer.warp, NumRows - 1), n = min(item.n + row, p.N - 1);
    StatisticsReader reader;
    reader.read(params, item.b, n, item.h, 0);
#pragma unroll 1
    for (int query = 0; query < p.Lq; query += kTileKeys) {
      ring.wait_until_empty();
      const uint32_t stage = ring.stage();
      load_pair_bias<Form, kTileKeys, Keys>(producer, bias(stage), p, item.b, item.n, item.h, query, item.first);
#pragma unroll 1
      for (int r = 0; r < NumRows; ++r) {
        load_rows<QueryTile>(producer, queries(stage, r), p.q, p, item.b, item.n + r, item.h, query, p.Lq);
        load_rows<QueryTile>(producer, grad_out(stage, r), params.grad_out, p, item.b, item.n + r, item.h, query, p.Lq);
      }
      if (producer.warp < NumRows) {
        reader.store(statistics(stage, row));
        reader.read(params, item.b, n, item.h, query + kTileKeys);
      }
      ring.hand_over();
    }
  }
};

}  // namespace longfold::kernels::cuda::mma
