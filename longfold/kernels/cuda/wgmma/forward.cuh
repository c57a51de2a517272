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

template <class T, int HeadDim, BiasForm Form, Blocks Which>
struct Forward {
  static constexpr bool kForWarpgroups = true;
  static constexpr TileSize kSize = forward_tile_size(HeadDim, Which);
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

  // Of kM times 64 queries, 16 of each in a warp.
  using Running = mma::RunningRows<kM, kWide>;
  using Fragments = uint32_t[kDeep][4];

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

  static __device__ __forceinline__ void start_logits(float (&s)[8][4], const Fragments& q, uint32_t ones,
                                                      const Place& place) {
    ptx::fence_products();
    ptx::multiply_async<T>(s, descriptor<mma::ColumnTile>(ones / 16), descriptor<mma::ColumnTile>(place.hidden / 16));
    add_products<T, KeyTile>(s, q, place.keys);
    ptx::commit_products();
  }

  static __device__ __forceinline__ void start_sums(float (&out)[kWide / 8][4], const uint32_t (&weights)[4][4],
                                                    const Place& place) {
    ptx::fence_products();
    start_weighted_sum<T, KeyTile>(out, weights, place.values);
    ptx::commit_products();
  }

  // Largest exponents become the references of their rows, and are taken off.
  static __device__ __forceinline__ void find_references(float (&minus_reference)[2], float (&s)[8][4]) {
    float largest[2] = {mma::kLowestReference, mma::kLowestReference};
#pragma unroll
    for (int i = 0; i < 32; ++i) largest[i % 4 / 2] = fmaxf(largest[i % 4 / 2], s[i / 4][i % 4]);
    to_rows(largest);
#pragma unroll
    for (int half = 0; half < 2; ++half) minus_reference[half] = -largest[half];
#pragma unroll
    for (int i = 0; i < 32; ++i) s[i / 4][i % 4] += minus_reference[i % 4 / 2];
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
  static __device__ __forceinline__ void weigh(float (&minus_reference)[2], float (&s)[8][4], float (&sums)[2],
                                               const Place& place, uint32_t pair, float scale, int lane,
                                               bool is_first) {
    Bias(pair, lane).to_exponents(s, scale * mma::kLog2E, minus_reference);  // 0 in the first tile
    if constexpr (!Common) {
      apply_mask(s, place.mask, lane);
      if (is_first) find_references(minus_reference, s);
    }
    sums[0] = sums[1] = 0;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float weight = ptx::exp2(s[j][i]);
        s[j][i] = weight;
        sums[i / 2] += weight;
      }
    }
  }

  // Rows whose sums have grown too large get a new reference, and their weights anew. The warp makes the logits again,
  // by products of its own, since weights may have become infinite.
  static __device__ __forceinline__ void move_references(Running& of, int m, const Fragments& fragments,
                                                         float (&weights)[8][4], float (&sums)[2], const Place& place,
                                                         uint32_t pair, float scale, int lane) {
    const auto& q = reinterpret_cast<const uint32_t (&)[1][kDeep][4]>(fragments);
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
      const uint32_t mask = place.mask + 16 * (lane % 4) + 8 * key;
      if (mma::mask_kind(place.mask) == mma::MaskTile::kSelected)
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
      const float minus = -largest[half], old = of.minus_reference[m][half];
      moves[half] = moves[half] && minus < old;
      if (!moves[half]) continue;
      of.minus_reference[m][half] = minus;
      sums[half] = 0;
      mma::scale_sums(of, m, half, ptx::exp2(minus - old));
    }
#pragma unroll
    for (int step = 0; step < 2; ++step) {
      float s[1][4][4];
      exponents(s, step, of.minus_reference[m]);
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

  static __device__ __forceinline__ void tile(Running& of, const Fragments (&q)[kM], const Place& place, uint32_t ones,
                                              float scale, int lane, bool is_first) {
    const bool is_common = !is_first && mma::is_in_products(mma::mask_kind(place.mask));
    float s[kM][8][4];
    uint32_t weights[kM][4][4];
#pragma unroll
    for (int m = 0; m < kM; ++m) start_logits(s[m], q[m], ones, place);
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      const uint32_t pair = place.bias + 64 * m * PairTile::kChunk;
      float sums[2];
      ptx::wait_for_products<kM - 1>();  // in flight: the other queries' logits or sums
      ptx::after_products(s[m]);
      if (is_common) [[likely]]
        weigh<true>(of.minus_reference[m], s[m], sums, place, pair, scale, lane, false);
      else
        weigh<false>(of.minus_reference[m], s[m], sums, place, pair, scale, lane, is_first);
      if (ptx::any(!(sums[0] <= mma::kLargestSum && sums[1] <= mma::kLargestSum))) [[unlikely]] {
        move_references(of, m, q[m], s[m], sums, place, pair, scale, lane);
      }
      of.sum[m][0] += sums[0];
      of.sum[m][1] += sums[1];
      pack_weights<T>(weights[m], s[m]);
      start_sums(of.out[m], weights[m], place);
    }
    ptx::wait_for_products<0>();
#pragma unroll
    for (int m = 0; m < kM; ++m) ptx::after_products(of.out[m]);
  }

  static __device__ void consume(const ForwardParams& params, Stages ring, Held held, uint32_t ones) {
    const Problem& p = params.problem;
    const int group = ptx::of_warp(static_cast<int>(threadIdx.x) / (4 * kLanes)), row = group / kGroups;
    const int warp = ptx::of_warp(static_cast<int>(threadIdx.x) / kLanes) % 4, lane = ptx::lane();
    const int first = group % kGroups * kM * 64 + 16 * warp;  // of the warp, in the first 64
    for (uint32_t i = blockIdx.x; i < ThisItem::count(p, p.Lq); i += gridDim.x) {
      const ThisItem item(p, p.Lq, i);
      Running of{};
      Fragments q[kM];
      held.wait_until_full();
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        mma::take_fragments<QueryTile>(q[m], Tiles::queries(held.stage(), row, first + 64 * m), lane);
      }
      held.leave(lane);
#pragma unroll 1
      for (int key = 0; key < p.Lk; key += mma::kTileKeys) {
        ring.wait_until_full();
        tile(of, q, Place(ring.stage(), row, first), ones, p.scale, lane, key == 0);
        if (key + mma::kTileKeys < p.Lk) ring.leave(lane);
      }
      const mma::MaskRow mask_row = mma::read_mask_row(Tiles::mask(ring.stage(), row));
      ring.leave(lane);
      if (item.n + row >= p.N) continue;
      mma::finish_forward<T, HeadDim, 64>(params, of, mask_row, item.b, item.n + row, item.h, item.first + first);
    }
  }

  static __device__ void run(const ForwardParams& params, uint32_t shared) {
    Tiles::prefetch_maps(params.problem);
    for (int i = 0; i < kStages * kRows; ++i) {
      store_factors<T>(Tiles::column(Stages::at(shared, i / kRows), i % kRows), true);
    }
    store_rows_of(shared + kOnesAt, [](int pair) { return pair == 0 ? ptx::pack<T>(1, 0) : 0; });
    ptx::fence_stores_to_products();
    mma::run_block<Stages, Held, kConsumers, kSize.blocks, producer_registers(HeadDim)>(
        shared, [&](Stages ring, Held held) { produce(params.problem, ring, held); },
        [&](Stages ring, Held held) { consume(params, ring, held, shared + kOnesAt); });
  }
};

}  // namespace longfold::kernels::cuda::wgmma
