// grad_q by products of warpgroups. Items and tiles are those of the forward pass; a warpgroup has 64 queries of one
// row n and keeps them and their output gradients in registers.
#pragma once

#include "longfold/kernels/cuda/mma/finish_grad_q.cuh"
#include "longfold/kernels/cuda/mma/key_tiles.cuh"
#include "longfold/kernels/cuda/wgmma/logit_gradients.cuh"
#include "longfold/kernels/cuda/wgmma/tile_size.h"

namespace longfold::kernels::cuda::wgmma {

template <class T, int HeadDim, BiasForm Form, bool OneRow>
struct GradQ {
  static constexpr bool kForWarpgroups = true;
  static constexpr TileSize kSize = grad_q_tile_size(HeadDim, OneRow);
  static constexpr int kRows = kSize.rows, kGroups = kSize.groups;
  static_assert(kSize.query_tiles == 1);
  static constexpr int kConsumers = 4 * kGroups * kRows, kThreads = kLanes * (kConsumers + kProducers);
  static constexpr int kQueries = 64 * kGroups, kWide = wide(HeadDim), kDeep = kWide / 16;
  using Tiles = mma::KeyTiles<HeadDim, Form, kRows, kQueries, true, kWide>;
  using QueryTile = typename Tiles::QueryTile;
  using KeyTile = typename Tiles::KeyTile;
  using PairTile = typename Tiles::PairTile;
  using Held = mma::Ring<1, Tiles::kQueryBytes, kConsumers, true>;
  static constexpr int kStages =
      mma::stages_in(shared_bytes_of(kSize.blocks) - Held::kBytes - mma::ColumnTile::kBytes, Tiles::kStageBytes);
  static_assert(kStages >= 2);

  using Stages = mma::Ring<kStages, Tiles::kStageBytes, kConsumers, true>;
  using ThisItem = typename Tiles::ThisItem;
  using Bias = PairBias<T, Form, PairTile>;
  static constexpr int kPairBytes = mma::bias_size(Form);  // of an element
  static constexpr int kSharedBytes = Stages::kBytes + Held::kBytes + mma::ColumnTile::kBytes;
  static_assert(kSharedBytes <= kMostSharedBytes / kSize.blocks);
  static constexpr bool kAreProducts = Form == BiasForm::kNone;

  // Of 64 queries, 16 in a warp.
  struct Queries {
    uint32_t q[kDeep][4], grad_out[kDeep][4];
    QueriesOfRows rows;
    float of_gradients[kWide / 8][4], of_weights[kWide / 8][4];  // sums over keys
    float sum[2];                                                // of a row's gradients, in this thread
  };

  static __device__ void produce(const BackwardParams& params, Stages ring, Held held) {
    const Problem& p = params.problem;
    const mma::Producer producer(kConsumers);
#pragma unroll 1
    for (uint32_t i = blockIdx.x; i < ThisItem::count(p, p.Lq); i += gridDim.x) {
      const ThisItem item(p, p.Lq, i);
      Tiles::load_queries(producer, p, p.q, p.maps.q, item, held);
      Tiles::load_queries(producer, p, params.grad_out, p.maps.grad_out, item, held);
      Tiles::template load_keys<T>(producer, p, item, ring);
    }
  }

  // Of a tile of keys. `pair`: the biases of the warp's first query. Common: products take care of the mask.
  template <bool Common>
  static __device__ __forceinline__ void tile(Queries& of, uint32_t stage, int row, uint32_t pair, uint32_t ones,
                                              float scale, int lane) {
    const uint32_t keys = Tiles::keys(stage, row);
    float s[8][4], grad[8][4];
    uint32_t weights[4][4], gradients[4][4];
    const uint32_t mask = Tiles::mask(stage, row);
    const bool selects = !Common && mma::mask_kind(mask) == mma::MaskTile::kSelected;
    if (selects) mma::clear_hidden<KeyTile>(keys, mask);
    ptx::fence_products();
    ptx::multiply_async<T>(s, descriptor<mma::ColumnTile>(ones / 16),
                           descriptor<mma::ColumnTile>(Tiles::column(stage, row) / 16));
    add_products<T, KeyTile>(s, of.q, keys);
    ptx::commit_products();
    start_products<T, KeyTile>(grad, of.grad_out, Tiles::values(stage, row));
    ptx::commit_products();
    ptx::wait_for_products<1>();
    ptx::after_products(s);
    if constexpr (!kAreProducts) Bias(pair, lane).add_to(s, scale);
    if constexpr (!Common) apply_mask(s, mask, lane, kAreProducts ? 1 / scale : 1.0f);
    to_weights<kAreProducts>(s, of.rows, scale);
    ptx::wait_for_products<0>();
    ptx::after_products(grad);
    pack_weights<T>(weights, s);
    ptx::fence_products();
    start_weighted_sum<T, KeyTile>(of.of_weights, weights, keys);
    ptx::commit_products();
    to_gradients(grad, s, of.rows);
    if (selects) mma::replace_hidden(grad, mask + 16 * (lane % 4), 0);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      of.sum[0] += grad[j][0] + grad[j][1];
      of.sum[1] += grad[j][2] + grad[j][3];
    }
    pack_weights<T>(gradients, grad);
    ptx::fence_products();
    start_weighted_sum<T, KeyTile>(of.of_gradients, gradients, keys);
    ptx::commit_products();
    ptx::wait_for_products<0>();
    ptx::after_products(of.of_weights);
    ptx::after_products(of.of_gradients);
  }

  static __device__ void consume(const BackwardParams& params, Stages ring, Held held, uint32_t ones) {
    const Problem& p = params.problem;
    const int group = ptx::of_warp(static_cast<int>(threadIdx.x) / (4 * kLanes)), row = group / kGroups;
    const int warp = ptx::of_warp(static_cast<int>(threadIdx.x) / kLanes) % 4, lane = ptx::lane();
    const int first = group % kGroups * 64 + 16 * warp;
#pragma unroll 1
    for (uint32_t i = blockIdx.x; i < ThisItem::count(p, p.Lq); i += gridDim.x) {
      const ThisItem item(p, p.Lq, i);
      const int n = min(item.n + row, p.N - 1);
      Queries of;
#pragma unroll
      for (int u = 0; u < kWide / 2; ++u) of.of_gradients[u / 4][u % 4] = of.of_weights[u / 4][u % 4] = 0;
      of.sum[0] = of.sum[1] = 0;
      held.wait_until_full();
      mma::take_fragments<QueryTile>(of.q, Tiles::queries(held.stage(), row, first), lane);
      held.leave(lane);
      const mma::QueryStatistics* const statistics =
          mma::statistics_of(params, item.b, n, item.h) + item.first + first + lane / 4;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const mma::QueryStatistics found = statistics[8 * half];
        of.rows.take(half, {found.minus_lse, found.minus_delta});
      }
      held.wait_until_full();
      mma::take_fragments<QueryTile>(of.grad_out, Tiles::queries(held.stage(), row, first), lane);
      held.leave(lane);
#pragma unroll 1
      for (int key = 0; key < p.Lk; key += mma::kTileKeys) {
        ring.wait_until_full();
        const uint32_t stage = ring.stage(), pair = Tiles::bias(stage, first);
        if (mma::is_in_products(mma::mask_kind(Tiles::mask(stage, row))))
          tile<true>(of, stage, row, pair, ones, p.scale, lane);
        else
          tile<false>(of, stage, row, pair, ones, p.scale, lane);
        ring.leave(lane);
      }
      if (item.n + row >= p.N) continue;
      mma::finish_grad_q<T, HeadDim>(params, of.of_gradients, of.of_weights, of.sum, of.rows.minus_delta, item.b, n,
                                     item.h, item.first + first, lane);
    }
  }

  static __device__ void run(const BackwardParams& params, uint32_t shared) {
    constexpr int kOnes = Stages::kBytes + Held::kBytes;
    for (int stage = 0; stage < kStages; ++stage) {
      clear<kRows * mma::ColumnTile::kBytes>(Tiles::column(Stages::at(shared, stage), 0));
    }
    store_ones<T>(shared + kOnes);
    mma::run_block<Stages, Held, kConsumers, kSize.blocks>(
        shared, [&](Stages ring, Held held) { produce(params, ring, held); },
        [&](Stages ring, Held held) { consume(params, ring, held, shared + kOnes); });
  }
};

}  // namespace longfold::kernels::cuda::wgmma
