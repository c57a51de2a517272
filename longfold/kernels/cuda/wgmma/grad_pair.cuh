// The pair bias's gradient by products of warpgroups. Items and their order are those of mma/grad_pair.cuh: a block has
// a tile of queries by keys and goes through the rows n of its group, whose logit gradients it sums in registers. A
// warpgroup has 64 of the queries and kTiles * 64 of the keys.
#pragma once

#include "longfold/kernels/cuda/mma/finish_grad_pair.cuh"
#include "longfold/kernels/cuda/mma/loader.cuh"
#include "longfold/kernels/cuda/wgmma/logit_gradients.cuh"
#include "longfold/kernels/cuda/wgmma/tile_size.h"

namespace longfold::kernels::cuda::wgmma {

template <class T, int HeadDim, BiasForm Form>
struct GradPair {
  static constexpr bool kForWarpgroups = true;
  static constexpr PairTileSize kSize = grad_pair_tile_size(HeadDim);
  static constexpr int kTiles = kSize.key_tiles, kWide = wide(HeadDim);
  static constexpr int kConsumers = 4 * kSize.query_groups * kSize.key_groups,
                       kThreads = kLanes * (kConsumers + kProducers);
  static constexpr int kAllTiles = kTiles * kSize.key_groups, kQueries = 64 * kSize.query_groups,
                       kKeys = 64 * kAllTiles;
  using QueryTile = mma::Tile<kQueries, 2 * kWide>;
  using KeyTile = mma::Tile<kKeys, 2 * kWide>;
  using PairTile = mma::BiasTile<Form, kQueries, kKeys>;
  // A stage: queries, gradients of outputs, keys, values, hidden keys, masks, the queries' columns. The bias stays by
  // itself while the rows go by; of wide heads, where there is no room for it, it comes in a stage and stays in
  // registers.
  static constexpr bool kBiasInStage = is_wide(HeadDim);
  static constexpr int kGradOutAt = QueryTile::kBytes, kKeysAt = 2 * kGradOutAt, kValuesAt = kKeysAt + KeyTile::kBytes;
  static constexpr int kHiddenAt = kValuesAt + KeyTile::kBytes;
  static constexpr int kMaskAt = kHiddenAt + kAllTiles * ColumnTile::kBytes;
  static constexpr int kColumnsAt = mma::round_up(kMaskAt + kAllTiles * mma::kMaskBytes, 1024);
  static constexpr int kStageBytes = mma::round_up(kColumnsAt + kSize.query_groups * ColumnTile::kBytes, 1024);
  static constexpr int kBiasBytes = mma::round_up(PairTile::kBytes, 1024);
  using Bias =
      std::conditional_t<kBiasInStage && Form == BiasForm::k32, HeldPairBias<T, PairTile>, PairBias<T, Form, PairTile>>;
  using Held = std::conditional_t<kBiasInStage, mma::NoRing, mma::Ring<1, kBiasBytes, kConsumers, true>>;
  static constexpr int kStages =
      mma::stages_in(shared_bytes_of(kSize.blocks) - Held::kBytes - ColumnTile::kBytes, kStageBytes);
  static_assert(kStages >= 2 && kAllTiles >= 2 && kAllTiles < kProducers && kQueries <= mma::kMostQueries);

  using Stages = mma::Ring<kStages, kStageBytes, kConsumers, true>;
  using ThisItem = mma::PairItem<kQueries, kKeys>;
  static constexpr int kPairBytes = mma::bias_size(Form);  // of an element
  static constexpr int kSharedBytes = Stages::kBytes + Held::kBytes + ColumnTile::kBytes;
  static_assert(kSharedBytes <= kMostSharedBytes / kSize.blocks);
  static_assert(!kBiasInStage || kBiasBytes <= kHiddenAt);  // whose other columns are zero from the start

  // Each warp but the last brings a tile of the mask, one of them the queries and another one the keys too; the last
  // one brings the queries' columns and the bias.
  static __device__ void produce(const BackwardParams& params, Stages ring, Held held) {
    const mma::Producer producer(kConsumers);
    if (producer.warp < kAllTiles)
      copy_rows_and_masks(producer.warp, params, ring, held);
    else
      copy_columns_and_bias(producer.warp == kProducers - 1, params, ring, held);
  }

  static __device__ __forceinline__ void copy_rows_and_masks(int tile, const BackwardParams& params, Stages ring,
                                                             Held held) {
    const Problem& p = params.problem;
#pragma unroll 1
    for (uint32_t i = blockIdx.x; i < ThisItem::count(params); i += gridDim.x) {
      const ThisItem item(params, i);
      if constexpr (kBiasInStage) {
        ring.wait_until_empty();
        ring.hand_over();
      } else {
        held.wait_until_empty();
        held.hand_over();
      }
      // The first tile of the mask has the shift.
      const auto ask = [&](int n, int key) {
        mma::MaskOfLane mask(p.mask, mma::bias_offset(p.mask, item.b, n, item.h), key);
        mask.ask(p.Lk - key);
        return mask;
      };
      const int key = item.key + tile * mma::kTileKeys;
      mma::MaskOfLane next_first = ask(item.begin, 0), next = ask(item.begin, key);
#pragma unroll 1
      for (int n = item.begin; n < item.end; ++n) {
        ring.wait_until_empty();
        const uint32_t stage = ring.stage(), barrier = ring.barrier();
        if (ptx::elect()) {
          if (tile == 0) {
            ptx::expect_bytes(barrier, 2 * QueryTile::kBytes);
            mma::copy_rows<QueryTile>(stage, barrier, p.q, p.maps.q, item.b, n, item.h, item.query);
            mma::copy_rows<QueryTile>(stage + kGradOutAt, barrier, params.grad_out, p.maps.grad_out, item.b, n, item.h,
                                      item.query);
          } else if (tile == 1) {
            ptx::expect_bytes(barrier, 2 * KeyTile::kBytes);
            mma::copy_rows<KeyTile>(stage + kKeysAt, barrier, p.k, p.maps.k, item.b, n, item.h, item.key);
            mma::copy_rows<KeyTile>(stage + kValuesAt, barrier, p.v, p.maps.v, item.b, n, item.h, item.key);
          }
        }
        const float2 first = next_first.values(), values = next.values();
        if (n + 1 < item.end) next_first = ask(n + 1, 0), next = ask(n + 1, key);
        const float shift = p.mask.data == nullptr ? 0 : mma::shift_of(first);
        const float2 hidden = mma::store_mask(stage + kMaskAt + tile * mma::kMaskBytes, p.mask, values, shift);
        mma::store_column<T>(stage + kHiddenAt + tile * ColumnTile::kBytes, hidden);
        ring.hand_over();
      }
    }
  }

  static __device__ __forceinline__ void copy_columns_and_bias(bool copies, const BackwardParams& params, Stages ring,
                                                               Held held) {
    const Problem& p = params.problem;
#pragma unroll 1
    for (uint32_t i = blockIdx.x; i < ThisItem::count(params); i += gridDim.x) {
      const ThisItem item(params, i);
      if constexpr (kBiasInStage)
        copy_bias(copies, p, item, ring);
      else
        copy_bias(copies, p, item, held);
#pragma unroll 1
      for (int n = item.begin; n < item.end; ++n) {
        ring.wait_until_empty();
        if (copies && ptx::elect()) {
          ptx::expect_bytes(ring.barrier(), kSize.query_groups * ColumnTile::kBytes);
          for (int group = 0; group < kSize.query_groups; ++group) {
            mma::copy_rows<ColumnTile>(ring.stage() + kColumnsAt + group * ColumnTile::kBytes, ring.barrier(),
                                       params.columns, p.maps.columns, item.b, n, item.h, item.query + 64 * group);
          }
        }
        ring.hand_over();
      }
    }
  }

  template <class Ring>
  static __device__ __forceinline__ void copy_bias(bool copies, const Problem& p, const ThisItem& item, Ring& ring) {
    ring.wait_until_empty();
    if (Form != BiasForm::kNone && copies && ptx::elect()) {
      ptx::expect_bytes(ring.barrier(), PairTile::kBytes);
      mma::copy_pair_bias<Form, kQueries, kKeys>(ring.stage(), ring.barrier(), p, item.b, item.begin, item.h,
                                                 item.query, item.key);
    }
    ring.hand_over();
  }

  // First factors of a row n, where they lie: in registers they would be of 16 queries each, and have no place there.
  struct Queries {
    RowsInPlace<QueryTile> q, grad_out;
    RowsInPlace<ColumnTile> columns;
  };

  static __device__ __forceinline__ void start_logits(float (&s)[8][4], const Queries& of, uint32_t keys,
                                                      uint32_t hidden) {
    ptx::fence_products();
    start_products<T, KeyTile>(s, of.q, keys);
    add_columns<T>(s, of.columns, hidden);
    ptx::commit_products();
  }
  static __device__ __forceinline__ void start_gradients(float (&grad)[8][4], const Queries& of, uint32_t values,
                                                         uint32_t factors) {
    ptx::fence_products();
    start_products<T, KeyTile>(grad, of.grad_out, values);
    add_columns<T>(grad, of.columns, factors);
    ptx::commit_products();
  }

  // Nothing is added of keys that a mask of bools hides, if it Selects: `mask` is of this lane's first two keys.
  template <bool Selects>
  static __device__ __forceinline__ void add_gradients(float (&sums)[8][4], const float (&weights)[8][4],
                                                       const float (&grad)[8][4], uint32_t mask) {
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float2 two = Selects ? ptx::load_shared<float2>(mask + 64 * j) : float2{0, 0};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (Selects && (i % 2 == 0 ? two.x : two.y) < 0) continue;
        sums[j][i] = fmaf(weights[j][i], grad[j][i], sums[j][i]);
      }
    }
  }

  static __device__ __forceinline__ void read_biases(Bias (&bias)[kTiles], uint32_t from, int first, int tile,
                                                     int lane) {
#pragma unroll
    for (int t = 0; t < kTiles; ++t) bias[t] = Bias(from + first * PairTile::kChunk, lane, 64 * (tile + t));
  }

  // Adds the logit gradients of a row n: those of the group'th 64 queries and keys from the tile'th 64 on.
  template <bool Common>
  static __device__ __forceinline__ void row(float (&sums)[kTiles][8][4], uint32_t stage, int group, int tile,
                                             const Bias (&bias)[kTiles], uint32_t factors, float scale, int lane) {
    const uint32_t queries = stage + 64 * group * QueryTile::kChunk,
                   keys = stage + kKeysAt + 64 * tile * KeyTile::kChunk;
    const uint32_t values = keys + KeyTile::kBytes, hidden = stage + kHiddenAt + tile * ColumnTile::kBytes;
    const Queries of{.q = {queries},
                     .grad_out = {queries + kGradOutAt},
                     .columns = {stage + kColumnsAt + group * ColumnTile::kBytes}};
    const float shift = load_shift<T>(of.columns.at), shifts[2] = {shift, shift};
    float s[kTiles][8][4], grad[8][4];
    start_logits(s[0], of, keys, hidden);
    start_gradients(grad, of, values, factors);
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
      // Logits of the next tile run while this one's are used.
      if (t + 1 < kTiles) {
        start_logits(s[t + 1], of, keys + 64 * (t + 1) * KeyTile::kChunk, hidden + (t + 1) * ColumnTile::kBytes);
        ptx::wait_for_products<2>();
      } else {
        ptx::wait_for_products<1>();
      }
      ptx::after_products(s[t]);
      bias[t].to_exponents(s[t], scale * mma::kLog2E, shifts);
      const uint32_t mask = stage + kMaskAt + (tile + t) * mma::kMaskBytes;
      if constexpr (!Common) apply_mask(s[t], mask, lane);
      to_weights(s[t]);
      if (t + 1 < kTiles)
        ptx::wait_for_products<1>();
      else
        ptx::wait_for_products<0>();
      ptx::after_products(grad);
      if (!Common && mma::mask_kind(mask) == mma::MaskTile::kSelected)
        add_gradients<true>(sums[t], s[t], grad, mask + 16 * (lane % 4));
      else
        add_gradients<false>(sums[t], s[t], grad, mask);
      if (t + 1 < kTiles) start_gradients(grad, of, values + 64 * (t + 1) * KeyTile::kChunk, factors);
    }
  }

  static __device__ void consume(const BackwardParams& params, Stages ring, Held held, uint32_t factors) {
    const Problem& p = params.problem;
    const int group = ptx::of_warp(static_cast<int>(threadIdx.x) / (4 * kLanes));
    const int warp = ptx::of_warp(static_cast<int>(threadIdx.x) / kLanes) % 4, lane = ptx::lane();
    const int first = 64 * (group / kSize.key_groups) + 16 * warp, tile = group % kSize.key_groups * kTiles;
#pragma unroll 1
    for (uint32_t i = blockIdx.x; i < ThisItem::count(params); i += gridDim.x) {
      const ThisItem item(params, i);
      float sums[kTiles][8][4] = {};
      Bias bias[kTiles];
      if constexpr (kBiasInStage) {
        ring.wait_until_full();
        read_biases(bias, ring.stage(), first, tile, lane);
        ptx::wait_for_loads();
        ring.leave(lane);
      } else {
        held.wait_until_full();
        read_biases(bias, held.stage(), first, tile, lane);
      }
#pragma unroll 1
      for (int n = item.begin; n < item.end; ++n) {
        ring.wait_until_full();
        const uint32_t stage = ring.stage();
        bool is_common = true;
#pragma unroll
        for (int t = 0; t < kTiles; ++t) {
          is_common &= mma::is_in_products(mma::mask_kind(stage + kMaskAt + (tile + t) * mma::kMaskBytes));
        }
        if (is_common)
          row<true>(sums, stage, group / kSize.key_groups, tile, bias, factors, p.scale, lane);
        else
          row<false>(sums, stage, group / kSize.key_groups, tile, bias, factors, p.scale, lane);
        ring.leave(lane);
      }
      if constexpr (!kBiasInStage) held.leave(lane);
#pragma unroll
      for (int t = 0; t < kTiles; ++t) {
        mma::finish_grad_pair(params, sums[t], item, item.query + first, item.key + 64 * (tile + t));
      }
    }
  }

  static __device__ void run(const BackwardParams& params, uint32_t shared) {
    constexpr int kFactorsAt = Stages::kBytes + Held::kBytes;
    for (int i = 0; i < kStages * kAllTiles; ++i) {
      store_factors<T>(Stages::at(shared, i / kAllTiles) + kHiddenAt + i % kAllTiles * ColumnTile::kBytes, true);
    }
    store_factors<T>(shared + kFactorsAt, false);
    ptx::fence_stores_to_products();
    mma::run_block<Stages, Held, kConsumers, kSize.blocks, producer_registers(HeadDim)>(
        shared, [&](Stages ring, Held held) { produce(params, ring, held); },
        [&](Stages ring, Held held) { consume(params, ring, held, shared + kFactorsAt); });
  }
};

}  // namespace longfold::kernels::cuda::wgmma
