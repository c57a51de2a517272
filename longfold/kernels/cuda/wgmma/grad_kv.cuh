// grad_k, grad_v and the mask's gradient by products of warpgroups. A warpgroup has 64 keys of one row n, which lie
// along the rows of its products: logits and weights are transposed. Tiles of queries come by. Keys and values stay in
// registers; of wide heads, whose sums take these, in shared memory.
#pragma once

#include "longfold/kernels/cuda/mma/finish_grad_kv.cuh"
#include "longfold/kernels/cuda/mma/query_tiles.cuh"
#include "longfold/kernels/cuda/wgmma/logit_gradients.cuh"
#include "longfold/kernels/cuda/wgmma/tile_size.h"

namespace longfold::kernels::cuda::wgmma {

template <class T, int HeadDim, BiasForm Form, bool OneRow>
struct GradKV {
  static constexpr bool kForWarpgroups = true;
  static constexpr TileSize kSize = grad_kv_tile_size(HeadDim, OneRow);
  static constexpr int kRows = kSize.rows, kGroups = kSize.groups;
  static constexpr int kConsumers = 4 * kGroups * kRows, kThreads = kLanes * (kConsumers + kProducers);
  static constexpr int kKeys = 64 * kGroups, kWide = wide(HeadDim), kDeep = kWide / 16;
  static_assert(kSize.query_tiles == 1);
  using Tiles = mma::QueryTiles<HeadDim, Form, kRows, kKeys, true, kWide>;
  using QueryTile = typename Tiles::QueryTile;
  using KeyTile = typename Tiles::KeyTile;
  using PairTile = typename Tiles::PairTile;
  static constexpr bool kInPlace = is_wide(HeadDim);
  // Whether the products with output gradients begin only when the biases, whose registers they take, have been added.
  static constexpr bool kInTurn = HeadDim > 96 && Form != BiasForm::kNone;
  using First = std::conditional_t<kInPlace, RowsInPlace<KeyTile>, uint32_t[kDeep][4]>;
  using Held = mma::Ring<2, Tiles::kKeyBytes, kConsumers, true>;
  static constexpr int kStages = mma::stages_in(shared_bytes_of(kSize.blocks) - Held::kBytes, Tiles::kStageBytes);
  static_assert(kStages >= 2);

  using Stages = mma::Ring<kStages, Tiles::kStageBytes, kConsumers, true>;
  using ThisItem = typename Tiles::ThisItem;
  using Bias = PairBiasOfKeys<T, Form, PairTile>;
  static constexpr int kPairBytes = mma::bias_size(Form);  // of an element
  static constexpr int kSharedBytes = Stages::kBytes + Held::kBytes;
  static_assert(kSharedBytes <= kMostSharedBytes / kSize.blocks);

  // Of 64 keys, 16 in a warp.
  struct Keys {
    First k, v;
    uint32_t of_lse[4], of_delta[4];  // factors of the queries' columns
    float mask[2];                    // what is added to logits: 0 for hidden keys
    bool hidden[2];
    float grad_k[kWide / 8][4], grad_v[kWide / 8][4], grad_mask[2];
  };

  static __device__ void produce(const BackwardParams& params, Stages ring, Held held) {
    const Problem& p = params.problem;
    const mma::Producer producer(kConsumers);
#pragma unroll 1
    for (uint32_t i = blockIdx.x; i < ThisItem::count(p, p.Lk); i += gridDim.x) {
      const ThisItem item(p, p.Lk, i);
      Tiles::load_keys(producer, p, p.k, p.maps.k, item, held);
      Tiles::load_keys(producer, p, p.v, p.maps.v, item, held);
      Tiles::load_queries(producer, params, item, ring);
    }
  }

  // The masks of this lane's keys. Returns whether some keys of the warp have values besides being shown or hidden.
  static __device__ bool look_at_masks(Keys& of, const Problem& p, int64_t offset, int first_key) {
    const float shift = mma::shift_of_row(p.mask, offset, p.Lk);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int key = first_key + 8 * half + mma::lane_of_warp() / 4;
      float value = 0;
      if (p.mask.data != nullptr && key < p.Lk) value = mma::read_mask(p.mask, offset + key * p.mask.strides[4]);
      of.hidden[half] = key >= p.Lk || value <= mma::kHidesAt;
      of.mask[half] = of.hidden[half] ? 0 : value - shift;
    }
    return ptx::any(of.mask[0] != 0 || of.mask[1] != 0);
  }

  // Of a tile of queries. `key` is the warp's first in the tile of the bias. Common: the mask has no values and wants
  // no gradient.
  template <bool Common>
  static __device__ __forceinline__ void tile(Keys& of, uint32_t stage, int row, int key, bool has_values, float scale,
                                              int lane) {
    const uint32_t queries = Tiles::queries(stage, row), grad_out = Tiles::grad_out(stage, row);
    const uint32_t columns = Tiles::statistics(stage, row);
    float s[8][4], grad[8][4];
    uint32_t weights[4][4], gradients[4][4];
    ptx::fence_products();
    start_products<T, QueryTile>(s, of.k, queries);
    add_columns<T>(s, of.of_lse, columns);
    ptx::commit_products();
    const auto start_gradients = [&] {
      start_products<T, QueryTile>(grad, of.v, grad_out);
      add_columns<T>(grad, of.of_delta, columns);
      ptx::commit_products();
    };
    if constexpr (kInTurn) {
      ptx::wait_for_products<0>();
    } else {
      start_gradients();
      ptx::wait_for_products<1>();
    }
    ptx::after_products(s);
    const float shift = load_shift<T>(columns), shifts[2] = {shift, shift};
    Bias(Tiles::bias(stage), key, lane).to_exponents(s, scale * mma::kLog2E, shifts);
    if constexpr (!Common) {
      if (has_values) {
#pragma unroll
        for (int i = 0; i < 32; ++i) s[i / 4][i % 4] = fmaf(of.mask[i % 4 / 2], mma::kLog2E, s[i / 4][i % 4]);
      }
    }
    if constexpr (kInTurn) {
      ptx::fence_products();
      start_gradients();
    }
    to_weights(s);
    ptx::wait_for_products<0>();
    ptx::after_products(grad);
    to_gradients(grad, s);
    if constexpr (!Common) {
#pragma unroll
      for (int i = 0; i < 32; ++i) of.grad_mask[i % 4 / 2] += grad[i / 4][i % 4];
    }
    pack_weights<T>(weights, s);
    pack_weights<T>(gradients, grad);
    ptx::fence_products();
    start_weighted_sum<T, QueryTile>(of.grad_v, weights, grad_out);
    start_weighted_sum<T, QueryTile>(of.grad_k, gradients, queries);
    ptx::commit_products();
    ptx::wait_for_products<0>();
    ptx::after_products(of.grad_v);
    ptx::after_products(of.grad_k);
  }

  static __device__ void consume(const BackwardParams& params, Stages ring, Held held) {
    const Problem& p = params.problem;
    const int group = ptx::of_warp(static_cast<int>(threadIdx.x) / (4 * kLanes)), row = group / kGroups;
    const int warp = ptx::of_warp(static_cast<int>(threadIdx.x) / kLanes) % 4, lane = ptx::lane();
    const int first = group % kGroups * 64 + 16 * warp;
#pragma unroll 1
    for (uint32_t i = blockIdx.x; i < ThisItem::count(p, p.Lk); i += gridDim.x) {
      const ThisItem item(p, p.Lk, i);
      const int n = min(item.n + row, p.N - 1);
      Keys of;
#pragma unroll
      for (int u = 0; u < kWide / 2; ++u) of.grad_k[u / 4][u % 4] = of.grad_v[u / 4][u % 4] = 0;
      of.grad_mask[0] = of.grad_mask[1] = 0;
#pragma unroll
      for (int word = 0; word < 4; ++word) {
        of.of_lse[word] = word < 2 ? factors<T>(lane % 4, true) : 0;
        of.of_delta[word] = word < 2 ? factors<T>(lane % 4, false) : 0;
      }
      held.wait_until_full();
      if constexpr (kInPlace) {
        Held values = held;
        values.advance();
        values.wait_until_full();
        of.k.at = Tiles::keys(held.stage(), row, first - 16 * warp);
        of.v.at = Tiles::keys(values.stage(), row, first - 16 * warp);
      } else {
        mma::take_fragments<KeyTile>(of.k, Tiles::keys(held.stage(), row, first), lane);
        held.leave(lane);
      }
      const bool has_values = look_at_masks(of, p, mma::bias_offset(p.mask, item.b, n, item.h), item.first + first);
      if constexpr (!kInPlace) {
        held.wait_until_full();
        mma::take_fragments<KeyTile>(of.v, Tiles::keys(held.stage(), row, first), lane);
        held.leave(lane);
      }
      // All warps of the warpgroup take the same way, since products are theirs together.
      const bool is_common = !ptx::any_of_warpgroup(has_values || params.grad_mask != nullptr, 1 + group);
#pragma unroll 1
      for (int query = 0; query < p.Lq; query += mma::kTileKeys) {
        ring.wait_until_full();
        if (is_common)
          tile<true>(of, ring.stage(), row, first, has_values, p.scale, lane);
        else
          tile<false>(of, ring.stage(), row, first, has_values, p.scale, lane);
        ring.leave(lane);
      }
      if constexpr (kInPlace) held.leave(lane), held.leave(lane);
      if (item.n + row >= p.N) continue;
#pragma unroll
      for (int u = 0; u < kWide / 2; ++u) {
        if (of.hidden[u % 4 / 2]) of.grad_k[u / 4][u % 4] = of.grad_v[u / 4][u % 4] = 0;
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        if (of.hidden[half]) of.grad_mask[half] = 0;
      }
      mma::finish_grad_kv<T, HeadDim>(params, of.grad_k, of.grad_v, of.grad_mask, item.b, n, item.h,
                                      item.first + first);
    }
  }

  static __device__ void run(const BackwardParams& params, uint32_t shared) {
    mma::run_block<Stages, Held, kConsumers, kSize.blocks, producer_registers(HeadDim)>(
        shared, [&](Stages ring, Held held) { produce(params, ring, held); },
        [&](Stages ring, Held held) { consume(params, ring, held); });
  }
};

}  // namespace longfold::kernels::cuda::wgmma
