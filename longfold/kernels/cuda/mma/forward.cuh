// Forward pass on tensor cores (mma.sync: compute capability 8.0 and later), 16-bit types.
//
// Blocks go through items in turn: an item is kQueries queries of kRows rows n of one b and h. The producer brings, for
// each item, its queries, then tiles of keys; a consumer warp has kM * 16 queries of one row n, which it keeps in
// registers.
#pragma once

#include "longfold/kernels/cuda/mma/finish_forward.cuh"
#include "longfold/kernels/cuda/mma/key_tiles.cuh"
#include "longfold/kernels/cuda/mma/softmax.cuh"

namespace longfold::kernels::cuda::mma {

template <class T, int HeadDim, BiasForm Form, bool OneRow>
struct Forward {
  static constexpr bool kForWarpgroups = false;
  static constexpr TileSize kSize = forward_tile_size(HeadDim, OneRow);
  static constexpr int kM = kSize.query_tiles, kRows = kSize.rows, kWarps = kSize.warps;
  static constexpr int kConsumers = kWarps * kRows, kThreads = kLanes * (kConsumers + kProducers);
  static constexpr int kQueries = 16 * kM * kWarps;
  using Tiles = KeyTiles<HeadDim, Form, kRows, kQueries>;
  using QueryTile = typename Tiles::QueryTile;
  using KeyTile = typename Tiles::KeyTile;
  using PairTile = typename Tiles::PairTile;
  static constexpr int kStages = stages_in(shared_bytes_of(kSize, HeadDim), Tiles::kStageBytes);
  static constexpr int kTiles = kStepKeys / 8;
  static_assert(kStages >= 2);

  using Stages = Ring<kStages, Tiles::kStageBytes, kConsumers>;
  using ThisItem = typename Tiles::ThisItem;
  static constexpr int kPairBytes = bias_size(Form);  // of an element
  static constexpr int kSharedBytes = Stages::kBytes;
  using Running = RoundedRows<kM, HeadDim>;

  // What a consumer reads of a stage: addresses of its row's keys and values, of its queries' biases, and of the masks
  // of its lane's first two keys, which may be bools.
  struct Place {
    uint32_t keys, values, bias, mask;
    bool selects;
  };

  // Logits of the step'th kStepKeys keys, or their products, which are logits once they are scaled.
  template <MaskTile Mask>
  static constexpr bool kAreProducts = Form == BiasForm::kNone && Mask != MaskTile::kValues;

  template <MaskTile Mask>
  static __device__ __forceinline__ void logits(float (&s)[kM][kTiles][4], const RowFragments<HeadDim> (&q)[kM],
                                                const Place& place, int step, float scale, int lane) {
    const int key = step * kStepKeys;
    const uint32_t mask = place.mask + 8 * key;
    multiply_rows<T, KeyTile>(s, q, place.keys + key * KeyTile::kChunk, lane, MaskStart<Mask>{mask});
    if constexpr (Form != BiasForm::kNone) {
#pragma unroll
      for (int j = 0; j < kTiles; j += 2) {
#pragma unroll
        for (int m = 0; m < kM; ++m) {
          float two[2][4];
          read_pair_bias<T, Form, PairTile>(two, place.bias + 16 * m * PairTile::kChunk, key + 8 * j, lane);
#pragma unroll
          for (int i = 0; i < 8; ++i) s[m][j + i / 4][i % 4] = fmaf(s[m][j + i / 4][i % 4], scale, two[i / 4][i % 4]);
        }
      }
    } else if constexpr (!kAreProducts<Mask>) {
#pragma unroll
      for (int i = 0; i < kM * kTiles * 4; ++i) s[i / (4 * kTiles)][i / 4 % kTiles][i % 4] *= scale;
    }
    if constexpr (Mask == MaskTile::kValues) apply_mask(s, mask, place.selects);
  }

  // Moves the references of rows to the largest of their first `num_steps` logits of a tile.
  template <MaskTile Mask>
  static __device__ void find_references(Running& rows, uint32_t which, bool are_first, int num_steps,
                                         const RowFragments<HeadDim> (&q)[kM], const Place& place, float scale,
                                         int lane) {
    float largest[kM][2];
#pragma unroll
    for (int i = 0; i < 2 * kM; ++i) largest[i / 2][i % 2] = kLowestReference;
#pragma unroll 1
    for (int step = 0; step < num_steps; ++step) {
      float s[kM][kTiles][4];
      logits<Mask>(s, q, place, step, scale, lane);
      find_largest(largest, s, kAreProducts<Mask> ? scale : 1.0f);
    }
    move_references(rows, which, are_first, largest);
  }

  template <MaskTile Mask>
  static __device__ __forceinline__ void tile(Running& rows, const RowFragments<HeadDim> (&q)[kM], const Place& place,
                                              float scale, int lane, bool is_first) {
    constexpr int kSteps = kTileKeys / kStepKeys;
    const float to_log2 = kAreProducts<Mask> ? scale * kLog2E : kLog2E;
    uint32_t weights[kSteps][kM][kTiles / 2][4];
    float sums[kM][2];
    if (is_first) find_references<Mask>(rows, ~0u, true, 1, q, place, scale, lane);
    for (bool moved = false;; moved = true) {  // rarely more than once
#pragma unroll
      for (int i = 0; i < 2 * kM; ++i) sums[i / 2][i % 2] = 0;
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        float s[kM][kTiles][4];
        logits<Mask>(s, q, place, step, scale, lane);
        weigh(s, to_log2, rows.minus_reference, sums);
        pack_weights<T>(weights[step], 0, s);
      }
      bool grown = false;
#pragma unroll
      for (int m = 0; m < kM; ++m) grown |= !(sums[m][0] <= kLargestSum && sums[m][1] <= kLargestSum);
      if (!ptx::any(grown) || moved) break;
      find_references<Mask>(rows, rows_to_move(sums, lane), false, kSteps, q, place, scale, lane);
    }
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      rows.sum[m][0] += sums[m][0];
      rows.sum[m][1] += sums[m][1];
    }
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      add_rounded<T>(rows, weights[step]);
      add_weighted_rows<T, KeyTile>(rows.out, weights[step], place.values + step * kStepKeys * KeyTile::kChunk, lane);
    }
  }

  static __device__ void produce(const Problem& p, Stages ring) {
    const Producer producer(kConsumers);
    for (uint32_t i = blockIdx.x; i < ThisItem::count(p, p.Lq); i += gridDim.x) {
      const ThisItem item(p, p.Lq, i);
      Tiles::load_queries(producer, p, p.q, p.maps.q, item, ring);
      Tiles::template load_keys<T>(producer, p, item, ring);
    }
  }

  static __device__ void consume(const ForwardParams& params, Stages ring) {
    const Problem& p = params.problem;
    const int warp = static_cast<int>(threadIdx.x) / kLanes, row = warp / kWarps, first = warp % kWarps * kM * 16;
    const int lane = ptx::lane();
    for (uint32_t i = blockIdx.x; i < ThisItem::count(p, p.Lq); i += gridDim.x) {
      const ThisItem item(p, p.Lq, i);
      Running running{};
      RowFragments<HeadDim> q[kM];
      ring.wait_until_full();
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        take_fragments<QueryTile>(q[m], Tiles::queries(ring.stage(), row, first + 16 * m), lane);
      }
      ring.leave(lane);
      MaskRow mask_row{};
      for (int key = 0; key < p.Lk; key += kTileKeys) {
        ring.wait_until_full();
        const uint32_t stage = ring.stage(), mask = Tiles::mask(stage, row);
        const Place place{Tiles::keys(stage, row), Tiles::values(stage, row), Tiles::bias(stage, first),
                          mask + 16 * (lane % 4), mask_kind(mask) == MaskTile::kSelected};
        with_mask_kind(mask, [&]<MaskTile Mask>() { tile<Mask>(running, q, place, p.scale, lane, key == 0); });
        if (key + kTileKeys >= p.Lk) mask_row = read_mask_row(mask);
        ring.leave(lane);
      }
      if (item.n + row >= p.N) continue;
      finish_forward<T, HeadDim, 16>(params, running, mask_row, item.b, item.n + row, item.h, item.first + first);
    }
  }

  static __device__ void run(const ForwardParams& params, uint32_t shared) {
    run_block<Stages, kConsumers, kSize.blocks>(
        shared, [&](Stages ring) { produce(params.problem, ring); }, [&](Stages ring) { consume(params, ring); });
  }
};

}  // namespace longfold::kernels::cuda::mma
