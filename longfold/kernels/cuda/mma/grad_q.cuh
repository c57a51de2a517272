// grad_q on tensor cores. Items, tiles and warps are those of the forward pass; a consumer warp keeps its queries and
// their output gradients in registers, and adds up logit gradients times keys.
#pragma once

#include "longfold/kernels/cuda/mma/finish_grad_q.cuh"
#include "longfold/kernels/cuda/mma/key_tiles.cuh"
#include "longfold/kernels/cuda/mma/logit_gradients.cuh"

namespace longfold::kernels::cuda::mma {

template <class T, int HeadDim, BiasForm Form, bool OneRow>
struct GradQ {
  static constexpr bool kForWarpgroups = false;
  static constexpr TileSize kSize = grad_q_tile_size(HeadDim, OneRow);
  static constexpr int kM = kSize.query_tiles, kRows = kSize.rows, kWarps = kSize.warps;
  static constexpr int kConsumers = kWarps * kRows, kThreads = kLanes * (kConsumers + kProducers);
  static constexpr int kQueries = 16 * kM * kWarps;
  using Tiles = KeyTiles<HeadDim, Form, kRows, kQueries>;
  using QueryTile = typename Tiles::QueryTile;
  using KeyTile = typename Tiles::KeyTile;
  using PairTile = typename Tiles::PairTile;
  static constexpr int kStages = stages_in(shared_bytes_of(kSize, HeadDim), Tiles::kStageBytes);
  static constexpr int kTiles = Head<HeadDim>::kOdd ? 4 : 2;  // of 8 keys at a time
  static_assert(kStages >= 2 && kWarps == 4);

  using Stages = Ring<kStages, Tiles::kStageBytes, kConsumers>;
  using ThisItem = typename Tiles::ThisItem;
  static constexpr int kPairBytes = bias_size(Form);  // of an element
  static constexpr int kSharedBytes = Stages::kBytes;

  static __device__ void produce(const BackwardParams& params, Stages ring) {
    const Problem& p = params.problem;
    const Producer producer(kConsumers);
    for (uint32_t i = blockIdx.x; i < ThisItem::count(p, p.Lq); i += gridDim.x) {
      const ThisItem item(p, p.Lq, i);
      Tiles::load_queries(producer, p, p.q, p.maps.q, item, ring);
      Tiles::load_queries(producer, p, params.grad_out, p.maps.grad_out, item, ring);
      Tiles::template load_keys<T>(producer, p, item, ring);
    }
  }

  static __device__ void consume(const BackwardParams& params, Stages ring) {
    const Problem& p = params.problem;
    const int warp = static_cast<int>(threadIdx.x) / kLanes, row = warp / kWarps, first = warp % kWarps * kM * 16;
    const int lane = ptx::lane();
    for (uint32_t i = blockIdx.x; i < ThisItem::count(p, p.Lq); i += gridDim.x) {
      const ThisItem item(p, p.Lq, i);
      const int n = min(item.n + row, p.N - 1);
      RowFragments<HeadDim> q[kM], grad_out[kM];
      float sums[2 * kM][HeadDim / 8][4] = {};  // gradients times keys; weights times keys
      float of_gradients[kM][2] = {};           // the sum of a row's logit gradients in this thread
      ring.wait_until_full();
#pragma unroll
      for (int m = 0; m < kM; ++m)
        take_fragments<QueryTile>(q[m], Tiles::queries(ring.stage(), row, first + 16 * m), lane);
      ring.leave(lane);
      ring.wait_until_full();
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        take_fragments<QueryTile>(grad_out[m], Tiles::queries(ring.stage(), row, first + 16 * m), lane);
      }
      ring.leave(lane);
      const QueryStatistics* const statistics = statistics_of(params, item.b, n, item.h) + item.first + first;
      const QueryRows<kM> rows([&](int query) { return statistics[query]; }, lane);
      for (int key = 0; key < p.Lk; key += kTileKeys) {
        ring.wait_until_full();
        const uint32_t keys = Tiles::keys(ring.stage(), row), values = Tiles::values(ring.stage(), row);
        const uint32_t bias = Tiles::bias(ring.stage(), first), mask = Tiles::mask(ring.stage(), row);
        with_kinds(mask, rows.any_uniform, [&]<MaskTile Mask, bool SomeUniform>() {
          const bool selects = Mask == MaskTile::kValues && mask_kind(mask) == MaskTile::kSelected;
          if (selects) clear_hidden<KeyTile>(keys, mask);
#pragma unroll
          for (int at = 0; at < kTileKeys; at += 8 * kTiles) {
            const uint32_t here = keys + at * KeyTile::kChunk;
            float grad[kM][kTiles][4], weights[kM][kTiles][4];
            logit_gradients<T, KeyTile, PairTile, Form, Mask, SomeUniform>(
                grad, weights, q, grad_out, rows, here, values + at * KeyTile::kChunk, bias, at, p.Lk - key - at,
                mask + 8 * at + 16 * (lane % 4), selects, p, lane);
            // With those of hidden keys, which are a uniform row's too.
            add_rows(of_gradients, grad);
            if (selects) replace_hidden(grad, mask + 8 * at + 16 * (lane % 4), 0);
            uint32_t packed[2 * kM][kTiles / 2][4];
            pack_weights<T>(packed, 0, grad);
            pack_weights<T>(packed, kM, weights);
            add_weighted_rows<T, KeyTile>(sums, packed, here, lane);
          }
        });
        ring.leave(lane);
      }
      if (item.n + row >= p.N) continue;
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        const int query = item.first + first + 16 * m;
        float minus_delta[2] = {rows.minus_delta[m][0], rows.minus_delta[m][1]};
        finish_grad_q<T, HeadDim>(params, sums[m], sums[kM + m], of_gradients[m], minus_delta, item.b, n, item.h, query,
                                  lane);
        if (lane % 4 != 0) continue;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          QueryStatistics* const of_query = statistics_of(params, item.b, n, item.h) + query + 8 * half + lane / 4;
          if (query + 8 * half + lane / 4 < p.Lq) of_query->minus_delta = minus_delta[half];
        }
      }
    }
  }

  static __device__ void run(const BackwardParams& params, uint32_t shared) {
    run_block<Stages, kConsumers, kSize.blocks>(
        shared, [&](Stages ring) { produce(params, ring); }, [&](Stages ring) { consume(params, ring); });
  }
};

}  // namespace longfold::kernels::cuda::mma
