// Forward pass by products of warpgroups (compute capability 9.0), 16-bit types.
//
// Items and the producers are those of mma/forward.cuh. A warpgroup has kM * 64 queries of one row n; a warp 16 of each
// 64. While one 64 queries' logits become weights, the products of the other ones run.
#pragma once

#include "longfold/kernels/cuda/mma/finish_forward.cuh"
#include "longfold/kernels/cuda/mma/key_tiles.cuh"
#include "longfold/kernels/cuda/mma/softmax.cuh"
#include "longfold/kernels/cuda/wgmma/logit_gradients.cuh"
#include "longfold/kernels/cuda/wgmma/products.cuh"
#include "longfold/kernels/cuda/wgmma/tile_size.h"

namespace longfold::kernels::cuda::wgmma {

template <class T, int HeadDim, BiasForm Form, bool OneRow>
struct Forward {
  static constexpr bool kForWarpgroups = true;
  static constexpr TileSize kSize = forward_tile_size(HeadDim, OneRow);
  static constexpr int kM = kSize.query_tiles, kRows = kSize.rows, kGroups = kSize.groups;
  static constexpr int kConsumers = 4 * kGroups * kRows, kThreads = kLanes * (kConsumers + kProducers);
  static constexpr int kQueries = 64 * kM * kGroups, kWide = wide(HeadDim), kDeep = kWide / 16;
  using Tiles = mma::KeyTiles<HeadDim, Form, kRows, kQueries, true, kWide>;
  using QueryTile = typename Tiles::QueryTile;
  using KeyTile = typename Tiles::KeyTile;
  using PairTile = typename Tiles::PairTile;
  // The queries of an item stay where they are while its tiles of keys come by.
  using Held = mma::Ring<1, Tiles::kQueryBytes, kConsumers, true>;
  static constexpr int kStages =
      mma::stages_in(shared_bytes_of(kSize.blocks) - Held::kBytes - mma::ColumnTile::kBytes, Tiles::kStageBytes);
  static_assert(kStages >= 2 && mma::kTileKeys == 64);

  using Stages = mma::Ring<kStages, Tiles::kStageBytes, kConsumers, true>;
  using ThisItem = typename Tiles::ThisItem;
  using Bias = PairBias<T, Form, PairTile>;
  static constexpr int kPairBytes = mma::bias_size(Form);  // of an element
  static constexpr int kOnesAt = Stages::kBytes + Held::kBytes;
  static constexpr int kSharedBytes = kOnesAt + mma::ColumnTile::kBytes;
  static_assert(kSharedBytes <= kMostSharedBytes / kSize.blocks);

  // Of 64 queries, 16 in a warp.
  struct Queries {
    uint32_t q[kDeep][4];
    float out[kWide / 8][4];
    float sum[2], minus_reference[2];
  };

  // What a warp reads of a stage: addresses of its row's keys, values and hidden keys, of its first queries' biases,
  // and of its row's mask.
  struct Place {
    uint32_t keys, values, hidden, bias, mask;
    __device__ __forceinline__ Place(uint32_t stage, int row, int first)
        : keys(Tiles::keys(stage, row)),
          values(Tiles::values(stage, row)),
          hidden(Tiles::column(stage, row)),
          bias(Tiles::bias(stage, first)),
          mask(Tiles::mask(stage, row)) {}
  };

  static __device__ __forceinline__ void start_logits(float (&s)[8][4], const Queries& of, uint32_t ones,
                                                      const Place& place) {
    ptx::fence_products();
    ptx::multiply_async<T>(s, descriptor<mma::ColumnTile>(ones / 16), descriptor<mma::ColumnTile>(place.hidden / 16));
    add_products<T, KeyTile>(s, of.q, place.keys);
    ptx::commit_products();
  }

  static __device__ __forceinline__ void start_sums(Queries& of, const uint32_t (&weights)[4][4], const Place& place) {
    ptx::fence_products();
    start_weighted_sum<T, KeyTile>(of.out, weights, place.values);
    ptx::commit_products();
  }

  // Largest exponents become the references of their rows, and are taken off.
  static __device__ __forceinline__ void find_references(Queries& of, float (&s)[8][4]) {
    float largest[2] = {mma::kLowestReference, mma::kLowestReference};
#pragma unroll
    for (int i = 0; i < 32; ++i) largest[i % 4 / 2] = fmaxf(largest[i % 4 / 2], s[i / 4][i % 4]);
    to_rows(largest);
#pragma unroll
    for (int half = 0; half < 2; ++half) of.minus_reference[half] = -largest[half];
#pragma unroll
    for (int i = 0; i < 32; ++i) s[i / 4][i % 4] += of.minus_reference[i % 4 / 2];
  }

  static __device__ __forceinline__ void to_rows(float (&largest)[2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      largest[half] = fmaxf(largest[half], ptx::shuffle_xor(largest[half], 1));
      largest[half] = fmaxf(largest[half], ptx::shuffle_xor(largest[half], 2));
    }
  }

  // Products become weights. Common: neither is the tile a row's first one nor has its mask values besides hidden keys.
  template <bool Common>
  static __device__ __forceinline__ void weigh(Queries& of, float (&s)[8][4], const Place& place, uint32_t pair,
                                               float scale, int lane, bool is_first) {
    Bias(pair, lane).to_exponents(s, scale * mma::kLog2E, of.minus_reference);  // 0 in the first tile
    if constexpr (!Common) {
      apply_mask(s, place.mask, lane);
      if (is_first) find_references(of, s);
    }
    float sums[2] = {};
#pragma unroll
    for (int j = 0; j < 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float weight = ptx::exp2(s[j][i]);
        s[j][i] = weight;
        sums[i / 2] += weight;
      }
    }
    if (ptx::any(!(sums[0] <= mma::kLargestSum && sums[1] <= mma::kLargestSum))) {
      move_references<Common>(of, s, sums, place, pair, scale, lane);
    }
    of.sum[0] += sums[0];
    of.sum[1] += sums[1];
  }

  // Rows whose sums have grown too large get a new reference, and their weights anew. The warp makes the logits again,
  // by products of its own, since weights may have become infinite.
  template <bool Common>
  static __device__ void move_references(Queries& of, float (&weights)[8][4], float (&sums)[2], const Place& place,
                                         uint32_t pair, float scale, int lane) {
    const auto& q = reinterpret_cast<const uint32_t (&)[1][kDeep][4]>(of.q);
    bool moves[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      moves[half] = (ptx::ballot(!(sums[half] <= mma::kLargestSum)) >> (lane & ~3) & 0xfu) != 0;
    }
    const auto exponents = [&](float (&s)[1][4][4], int step, const float (&shift)[2]) {
      const int key = 32 * step;
      mma::multiply_rows<T, KeyTile>(s, q, place.keys + key * KeyTile::kChunk, lane,
                                     mma::MaskStart<mma::MaskTile::kAllShown>{});
#pragma unroll
      for (int j = 0; j < 4; j += 2) {
        float two[2][4] = {};
        mma::read_pair_bias<T, Form, PairTile>(two, pair, key + 8 * j, lane);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          float& number = s[0][j + i / 4][i % 4];
          number = exponent<Form>(number, scale * mma::kLog2E, two[i / 4][i % 4], shift[i % 4 / 2]);
        }
      }
      const mma::MaskTile kind = Common ? mma::MaskTile::kSomeHidden : mma::mask_kind(place.mask);
      const uint32_t mask = place.mask + 16 * (lane % 4) + 8 * key;
      if (kind == mma::MaskTile::kSelected)
        mma::replace_hidden(s[0], mask, -INFINITY);
      else
        add_mask(s[0], mask, mma::kLog2E);
    };
    constexpr float kNoShift[2] = {};
    float largest[2] = {mma::kLowestReference, mma::kLowestReference};
#pragma unroll 1
    for (int step = 0; step < 2; ++step) {
      float s[1][4][4];
      exponents(s, step, kNoShift);
#pragma unroll
      for (int i = 0; i < 16; ++i) largest[i % 4 / 2] = fmaxf(largest[i % 4 / 2], s[0][i / 4][i % 4]);
    }
    to_rows(largest);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float minus = -largest[half], old = of.minus_reference[half];
      moves[half] = moves[half] && minus < old;
      if (!moves[half]) continue;
      of.minus_reference[half] = minus;
      sums[half] = 0;
      const float factor = ptx::exp2(minus - old);
      of.sum[half] *= factor;
#pragma unroll
      for (int u = 0; u < kWide / 8; ++u) {
        of.out[u][2 * half] *= factor;
        of.out[u][2 * half + 1] *= factor;
      }
    }
#pragma unroll
    for (int step = 0; step < 2; ++step) {
      float s[1][4][4];
      exponents(s, step, of.minus_reference);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (!moves[i / 2]) continue;
          const float weight = ptx::exp2(s[0][j][i]);
          weights[4 * step + j][i] = weight;
          sums[i / 2] += weight;
        }
      }
    }
  }

  static __device__ void produce(const Problem& p, Stages ring, Held held) {
    const mma::Producer producer(kConsumers);
    for (uint32_t i = blockIdx.x; i < ThisItem::count(p, p.Lq); i += gridDim.x) {
      const ThisItem item(p, p.Lq, i);
      Tiles::load_queries(producer, p, p.q, p.maps.q, item, held);
      Tiles::template load_keys<T>(producer, p, item, ring);
    }
  }

  template <bool Common>
  static __device__ __forceinline__ void tile(Queries (&of)[kM], const Place& place, uint32_t ones, float scale,
                                              int lane, bool is_first) {
    float s[kM][8][4];
    uint32_t weights[kM][4][4];
#pragma unroll
    for (int m = 0; m < kM; ++m) start_logits(s[m], of[m], ones, place);
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      ptx::wait_for_products<kM - 1>();  // in flight: the other queries' logits or sums
      ptx::after_products(s[m]);
      weigh<Common>(of[m], s[m], place, place.bias + 64 * m * PairTile::kChunk, scale, lane, is_first);
      pack_weights<T>(weights[m], s[m]);
      start_sums(of[m], weights[m], place);
    }
    ptx::wait_for_products<0>();
#pragma unroll
    for (int m = 0; m < kM; ++m) ptx::after_products(of[m].out);
  }

  static __device__ void consume(const ForwardParams& params, Stages ring, Held held, uint32_t ones) {
    const Problem& p = params.problem;
    const int group = ptx::of_warp(static_cast<int>(threadIdx.x) / (4 * kLanes)), row = group / kGroups;
    const int warp = ptx::of_warp(static_cast<int>(threadIdx.x) / kLanes) % 4, lane = ptx::lane();
    const int first = group % kGroups * kM * 64 + 16 * warp;  // of the warp, in the first 64
    for (uint32_t i = blockIdx.x; i < ThisItem::count(p, p.Lq); i += gridDim.x) {
      const ThisItem item(p, p.Lq, i);
      Queries of[kM];
      held.wait_until_full();
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        mma::take_fragments<QueryTile>(of[m].q, Tiles::queries(held.stage(), row, first + 64 * m), lane);
#pragma unroll
        for (int u = 0; u < kWide / 2; ++u) of[m].out[u / 4][u % 4] = 0;
        of[m].sum[0] = of[m].sum[1] = of[m].minus_reference[0] = of[m].minus_reference[1] = 0;
      }
      held.leave(lane);
#pragma unroll 1
      for (int key = 0; key < p.Lk; key += mma::kTileKeys) {
        ring.wait_until_full();
        const Place place(ring.stage(), row, first);
        if (key > 0 && mma::is_in_products(mma::mask_kind(place.mask)))
          tile<true>(of, place, ones, p.scale, lane, false);
        else
          tile<false>(of, place, ones, p.scale, lane, key == 0);
        if (key + mma::kTileKeys < p.Lk) ring.leave(lane);
      }
      const mma::MaskRow mask_row = mma::read_mask_row(Tiles::mask(ring.stage(), row));
      ring.leave(lane);
      if (item.n + row >= p.N) continue;
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        mma::finish_forward<T, HeadDim>(params, of[m].out, of[m].sum, of[m].minus_reference, mask_row, item.b,
                                        item.n + row, item.h, item.first + first + 64 * m);
      }
    }
  }

  static __device__ void run(const ForwardParams& params, uint32_t shared) {
    for (int i = 0; i < kStages * kRows; ++i) {
      store_factors<T>(Tiles::column(Stages::at(shared, i / kRows), i % kRows), true);
    }
    store_rows_of(shared + kOnesAt, [](int pair) { return pair == 0 ? ptx::pack<T>(1, 0) : 0; });
    mma::run_block<Stages, Held, kConsumers, kSize.blocks, producer_registers(HeadDim)>(
        shared, [&](Stages ring, Held held) { produce(params.problem, ring, held); },
        [&](Stages ring, Held held) { consume(params, ring, held, shared + kOnesAt); });
  }
};

}  // namespace longfold::kernels::cuda::wgmma
