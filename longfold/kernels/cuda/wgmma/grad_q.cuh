// grad_q by products of warpgroups. Items and tiles are those of the forward pass; a warpgroup has 64 queries of one
// row n and keeps them and their output gradients in registers; of wide heads, whose sums take these, in shared memory.
// The first pass: it makes the queries' columns (columns.cuh), with delta from the rounded output, and leaves them for
// the others with delta mended.
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
  static constexpr bool kInPlace = is_wide(HeadDim);
  // Whether the products with values begin only when the biases, whose registers they take, have been added.
  static constexpr bool kInTurn = HeadDim > 96 && Form != BiasForm::kNone;
  using First = std::conditional_t<kInPlace, RowsInPlace<QueryTile>, uint32_t[kDeep][4]>;
  // Of the next item they come while this one's are used, where they do not stay.
  using Held = mma::Ring<kInPlace ? 2 : 3, Tiles::kQueryBytes, kConsumers, true>;
  // What stays for the whole block: the factors of delta's parts, and ones.
  static constexpr int kOnesAt = ColumnTile::kBytes, kConstantBytes = 2 * ColumnTile::kBytes;
  static constexpr int kStages =
      mma::stages_in(shared_bytes_of(kSize.blocks) - Held::kBytes - kConstantBytes, Tiles::kStageBytes);
  static_assert(kStages >= 2);

  using Stages = mma::Ring<kStages, Tiles::kStageBytes, kConsumers, true>;
  using ThisItem = typename Tiles::ThisItem;
  using Bias = PairBias<T, Form, PairTile>;
  static constexpr int kPairBytes = mma::bias_size(Form);  // of an element
  static constexpr int kSharedBytes = Stages::kBytes + Held::kBytes + kConstantBytes;
  static_assert(kSharedBytes <= kMostSharedBytes / kSize.blocks);

  // Of 64 queries, 16 in a warp.
  struct Queries {
    First q, grad_out;
    uint32_t columns[4];
    float minus_delta[2], shift;
    float of_gradients[kWide / 8][4], of_weights[kWide / 8][4];  // sums over keys
    float sum[1][4];                                             // of a row's gradients, as they are multiplied
  };

  static __device__ void produce(const BackwardParams& params, Stages ring, Held held) {
    const Problem& p = params.problem;
    const mma::Producer producer(kConsumers);
#pragma unroll 1
    for (uint32_t i = blockIdx.x; i < ThisItem::count(p, p.Lq); i += gridDim.x) {
      const ThisItem item(p, p.Lq, i);
      Tiles::load_queries(producer, p, params.out, p.maps.out, item, held);
      Tiles::load_queries(producer, p, p.q, p.maps.q, item, held);
      Tiles::load_queries(producer, p, params.grad_out, p.maps.grad_out, item, held);
      Tiles::template load_keys<T>(producer, p, item, ring);
    }
  }

  // Of a tile of keys. `pair`: the biases of the warp's first query. Common: products take care of the mask.
  template <bool Common>
  static __device__ __forceinline__ void tile(Queries& of, uint32_t stage, int row, uint32_t pair, uint32_t constants,
                                              float scale, int lane) {
    const uint32_t keys = Tiles::keys(stage, row);
    float s[8][4], grad[8][4];
    uint32_t weights[4][4], gradients[4][4];
    const uint32_t mask = Tiles::mask(stage, row);
    const bool selects = !Common && mma::mask_kind(mask) == mma::MaskTile::kSelected;
    if (selects) mma::clear_hidden<KeyTile>(keys, mask);
    ptx::fence_products();
    start_products<T, KeyTile>(s, of.q, keys);
    add_columns<T>(s, of.columns, Tiles::column(stage, row));
    ptx::commit_products();
    const auto start_gradients = [&] {
      start_products<T, KeyTile>(grad, of.grad_out, Tiles::values(stage, row));
      add_columns<T>(grad, of.columns, constants);
      ptx::commit_products();
    };
    if constexpr (kInTurn) {
      ptx::wait_for_products<0>();
    } else {
      start_gradients();
      ptx::wait_for_products<1>();
    }
    ptx::after_products(s);
    const float shifts[2] = {of.shift, of.shift};
    Bias(pair, lane).to_exponents(s, scale * mma::kLog2E, shifts);
    if constexpr (!Common) apply_mask(s, mask, lane);
    if constexpr (kInTurn) {
      ptx::fence_products();
      start_gradients();
    }
    to_weights(s);
    ptx::wait_for_products<0>();
    ptx::after_products(grad);
    pack_weights<T>(weights, s);
    ptx::fence_products();
    start_weighted_sum<T, KeyTile>(of.of_weights, weights, keys);
    ptx::commit_products();
    to_gradients(grad, s);
    if (selects) mma::replace_hidden(grad, mask + 16 * (lane % 4), 0);
    pack_weights<T>(gradients, grad);
    ptx::fence_products();
    start_weighted_sum<T, KeyTile>(of.of_gradients, gradients, keys);
    start_row_sums<T>(of.sum, gradients, constants + kOnesAt);
    ptx::commit_products();
    ptx::wait_for_products<0>();
    ptx::after_products(of.of_weights);
    ptx::after_products(of.of_gradients);
    ptx::after_products(of.sum);
  }

  // What the warp keeps of an item's queries, but their log_sum_exp.
  static __device__ __forceinline__ void take_queries(Queries& of, Held& held, int row, int first, int warp, int lane) {
    const auto at = [&](const Held& ring) { return Tiles::queries(ring.stage(), row, first); };
    uint32_t out[kDeep][4], grad_out[kDeep][4];
    held.wait_until_full();
    mma::take_fragments<QueryTile>(out, at(held), lane);
    held.leave(lane);
    held.wait_until_full();
    if constexpr (kInPlace) {
      Held next = held;
      next.advance();
      next.wait_until_full();
      mma::load_fragments<QueryTile>(grad_out, at(next), lane);
      of.q.at = at(held) - 16 * warp * QueryTile::kChunk;
      of.grad_out.at = at(next) - 16 * warp * QueryTile::kChunk;
    } else {
      mma::take_fragments<QueryTile>(of.q, at(held), lane);
      held.leave(lane);
      held.wait_until_full();
      mma::take_fragments<QueryTile>(of.grad_out, at(held), lane);
      held.leave(lane);
      std::memcpy(grad_out, of.grad_out, sizeof(grad_out));
    }
    dot_of_rows<T>(of.minus_delta, out, grad_out);
  }

  static __device__ void consume(const BackwardParams& params, Stages ring, Held held, uint32_t constants) {
    const Problem& p = params.problem;
    const int group = ptx::of_warp(static_cast<int>(threadIdx.x) / (4 * kLanes)), row = group / kGroups;
    const int warp = ptx::of_warp(static_cast<int>(threadIdx.x) / kLanes) % 4, lane = ptx::lane();
    const int first = group % kGroups * 64 + 16 * warp;
#pragma unroll 1
    for (uint32_t i = blockIdx.x; i < ThisItem::count(p, p.Lq); i += gridDim.x) {
      const ThisItem item(p, p.Lq, i);
      const int n = min(item.n + row, p.N - 1);
      Queries of;
      mma::LogSumExp lse[2];
      float grad_lse[2];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int query = min(item.first + first + 8 * half + lane / 4, p.Lq - 1);
        lse[half] = mma::log_sum_exp_at(params, item.b, n, item.h, query);
        grad_lse[half] = mma::grad_lse_at(params, item.b, n, item.h, query);
      }
      const int first_of_group = min(item.first + first - 16 * warp, p.Lq - 1);
      const mma::LogSumExp first_lse = mma::log_sum_exp_at(params, item.b, n, item.h, first_of_group);
      take_queries(of, held, row, first, warp, lane);
#pragma unroll
      for (int u = 0; u < kWide / 2; ++u) of.of_gradients[u / 4][u % 4] = of.of_weights[u / 4][u % 4] = 0;
      for (float& sum : of.sum[0]) sum = 0;
      ring.wait_until_full();
      const float shift = ptx::load_shared<float>(Tiles::mask(ring.stage(), row) + mma::kMaskShiftAt);
      of.shift = shift_near<T>(first_lse, shift);
      of.columns[2] = of.columns[3] = 0;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const bool is_there = item.first + first + 8 * half + lane / 4 < p.Lq;
        const float minus_lse = is_there ? minus_lse_beyond(of.shift, lse[half], shift) : -INFINITY;
        of.minus_delta[half] = is_there ? grad_lse[half] - of.minus_delta[half] : 0;
        of.columns[half] = columns_of_query<T>(minus_lse, of.minus_delta[half], of.shift, p.scale * mma::kLog2E, lane);
      }
#pragma unroll 1
      for (int key = 0; key < p.Lk; key += mma::kTileKeys) {
        ring.wait_until_full();
        const uint32_t stage = ring.stage(), pair = Tiles::bias(stage, first);
        if (mma::is_in_products(mma::mask_kind(Tiles::mask(stage, row))))
          tile<true>(of, stage, row, pair, constants, p.scale, lane);
        else
          tile<false>(of, stage, row, pair, constants, p.scale, lane);
        ring.leave(lane);
      }
      if constexpr (kInPlace) held.leave(lane), held.leave(lane);
      if (item.n + row >= p.N) continue;
      const int query = item.first + first;
      // What is added up there are the parts of four lanes.
      const float of_lane[2] = {lane % 4 == 0 ? of.sum[0][0] : 0, lane % 4 == 0 ? of.sum[0][2] : 0};
      mma::finish_grad_q<T, HeadDim>(params, of.of_gradients, of.of_weights, of_lane, of.minus_delta, item.b, n, item.h,
                                     query, lane);
      store_columns<T>(params.columns, of.columns, of.minus_delta, of.shift, item.b, n, item.h, query, lane);
    }
  }

  static __device__ void run(const BackwardParams& params, uint32_t shared) {
    constexpr int kConstantsAt = Stages::kBytes + Held::kBytes;
    Tiles::prefetch_maps(params.problem);
    for (int i = 0; i < kStages * kRows; ++i) {
      store_factors<T>(Tiles::column(Stages::at(shared, i / kRows), i % kRows), true);
    }
    store_factors<T>(shared + kConstantsAt, false);
    store_rows_of(shared + kConstantsAt + kOnesAt, [](int) { return ptx::pack<T>(1, 1); });
    ptx::fence_stores_to_products();
    mma::run_block<Stages, Held, kConsumers, kSize.blocks, producer_registers(HeadDim)>(
        shared, [&](Stages ring, Held held) { produce(params, ring, held); },
        [&](Stages ring, Held held) { consume(params, ring, held, shared + kConstantsAt); });
  }
};

}  // namespace longfold::kernels::cuda::wgmma
