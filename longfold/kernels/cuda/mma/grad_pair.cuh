// The pair bias's gradient on tensor cores: logit gradients summed over rows n. A block has a tile of queries by keys
// and goes through the rows n of its group one after another; the sums stay in registers, in a fixed order, and are
// written once. There are up to kMostPairGroups groups, each with a plane of its own, which are added up in their
// order.
#pragma once

#include "longfold/kernels/cuda/mma/finish_grad_pair.cuh"
#include "longfold/kernels/cuda/mma/logit_gradients.cuh"

namespace longfold::kernels::cuda::mma {

template <class T, int HeadDim, BiasForm Form>
struct GradPair {
  static constexpr bool kForWarpgroups = false;
  static constexpr TileSize kSize = grad_pair_tile_size(HeadDim);
  static constexpr int kM = kSize.query_tiles, kWarps = kSize.warps;
  static constexpr int kConsumers = 2 * kWarps, kThreads = kLanes * (kConsumers + kProducers);
  static constexpr int kQueries = 16 * kM * kWarps, kKeys = 2 * kTileKeys;
  using QueryTile = Tile<kQueries, 2 * HeadDim>;
  using KeyTile = Tile<kKeys, 2 * HeadDim>;
  using PairTile = BiasTile<Form, kQueries, kKeys>;
  // A stage: queries, gradients of outputs, keys, values, two tiles of the mask, statistics. The bias stays by itself
  // while the rows go by.
  static constexpr int kGradOutAt = QueryTile::kBytes, kKeysAt = 2 * kGradOutAt, kValuesAt = kKeysAt + KeyTile::kBytes;
  static constexpr int kMaskAt = kValuesAt + KeyTile::kBytes, kStatisticsAt = kMaskAt + 2 * kMaskBytes;
  static constexpr int kBlocks = kQueries / kStatisticsBlock;
  static constexpr int kStageBytes = round_up(kStatisticsAt + kBlocks * kStatisticsBytes, 1024);
  static constexpr int kBiasBytes = round_up(PairTile::kBytes, 1024);
  static constexpr int kStages = stages_in(most_shared_bytes(HeadDim) - 2 * 1024 - kBiasBytes, kStageBytes);
  static constexpr int kTiles = Head<HeadDim>::kOdd ? 4 : 2;  // of 8 keys at a time
  static_assert(kStages >= 1);

  using Stages = Ring<kStages, kStageBytes, kConsumers>;
  using Bias = Ring<1, kBiasBytes, kConsumers>;
  static constexpr int kPairBytes = bias_size(Form);  // of an element
  static constexpr int kSharedBytes = Stages::kBytes + Bias::kBytes;

  using ThisItem = PairItem<kQueries, kKeys>;

  static __device__ void produce(const BackwardParams& params, Stages ring, Bias bias) {
    const Problem& p = params.problem;
    const Producer producer(kConsumers);
    for (uint32_t i = blockIdx.x; i < ThisItem::count(params); i += gridDim.x) {
      const ThisItem item(params, i);
      bias.wait_until_empty();
      if (!p.maps.are_used) {
        load_pair_bias<Form, kQueries, kKeys>(producer, bias.stage(), p, item.b, item.begin, item.h, item.query,
                                              item.key);
      } else if (Form != BiasForm::kNone && producer.warp == 0 && ptx::elect()) {
        ptx::expect_bytes(bias.barrier(), PairTile::kBytes);
        copy_pair_bias<Form, kQueries, kKeys>(bias.stage(), bias.barrier(), p, item.b, item.begin, item.h, item.query,
                                              item.key);
      }
      bias.hand_over();
      // Read a row ahead: warps 1 and 2 bring a tile of the mask each, warps 3 and 0 a block of statistics. The first
      // tile of the mask has the shift.
      const int my_key = item.key + max(producer.warp - 1, 0) * kTileKeys, my_block = producer.warp == 3 ? 0 : 1;
      const bool brings_statistics = producer.warp % 3 == 0 && my_block < kBlocks;
      const auto ask_for_mask = [&](int n, int key) {
        MaskOfLane mask(p.mask, bias_offset(p.mask, item.b, n, item.h), key);
        mask.ask(p.Lk - key);
        return mask;
      };
      StatisticsReader reader;
      const auto read_statistics = [&](int n) {
        reader.read(params, item.b, n, item.h, item.query + my_block * kStatisticsBlock);
      };
      MaskOfLane next_first = ask_for_mask(item.begin, 0), next = ask_for_mask(item.begin, my_key);
      if (brings_statistics) read_statistics(item.begin);
      for (int n = item.begin; n < item.end; ++n) {
        const float2 first = next_first.values(), values = next.values();
        const float shift = p.mask.data == nullptr ? 0 : shift_of(first);
        if (n + 1 < item.end) next_first = ask_for_mask(n + 1, 0), next = ask_for_mask(n + 1, my_key);
        ring.wait_until_empty();
        const uint32_t stage = ring.stage(), barrier = ring.barrier();
        if (!p.maps.are_used) {
          load_rows<QueryTile>(producer, stage, p.q, p, item.b, n, item.h, item.query, p.Lq);
          load_rows<QueryTile>(producer, stage + kGradOutAt, params.grad_out, p, item.b, n, item.h, item.query, p.Lq);
          load_rows<KeyTile>(producer, stage + kKeysAt, p.k, p, item.b, n, item.h, item.key, p.Lk);
          load_rows<KeyTile>(producer, stage + kValuesAt, p.v, p, item.b, n, item.h, item.key, p.Lk);
        } else {
          if (producer.warp == 0 && ptx::elect()) {
            ptx::expect_bytes(barrier, 2 * QueryTile::kBytes);
            copy_rows<QueryTile>(stage, barrier, p.q, p.maps.q, item.b, n, item.h, item.query);
            copy_rows<QueryTile>(stage + kGradOutAt, barrier, params.grad_out, p.maps.grad_out, item.b, n, item.h,
                                 item.query);
          }
          if (producer.warp == 3 && ptx::elect()) {
            ptx::expect_bytes(barrier, 2 * KeyTile::kBytes);
            copy_rows<KeyTile>(stage + kKeysAt, barrier, p.k, p.maps.k, item.b, n, item.h, item.key);
            copy_rows<KeyTile>(stage + kValuesAt, barrier, p.v, p.maps.v, item.b, n, item.h, item.key);
          }
        }
        if (producer.warp == 1 || producer.warp == 2) {
          store_mask(stage + kMaskAt + (producer.warp - 1) * kMaskBytes, p.mask, values, shift);
        } else if (brings_statistics) {
          reader.store(stage + kStatisticsAt + my_block * kStatisticsBytes);
          if (n + 1 < item.end) read_statistics(n + 1);
        }
        ring.hand_over();
      }
    }
  }

  static __device__ void consume(const BackwardParams& params, Stages ring, Bias bias) {
    const Problem& p = params.problem;
    const int warp = static_cast<int>(threadIdx.x) / kLanes, first = warp % kWarps * kM * 16;
    const int half = warp / kWarps, first_key = half * kTileKeys, lane = ptx::lane();
    for (uint32_t i = blockIdx.x; i < ThisItem::count(params); i += gridDim.x) {
      const ThisItem item(params, i);
      float sums[kM][kTileKeys / 8][4] = {};
      bias.wait_until_full();
      const uint32_t bias_rows = bias.stage() + first * PairTile::kChunk;
      for (int n = item.begin; n < item.end; ++n) {
        ring.wait_until_full();
        const uint32_t stage = ring.stage(), keys = stage + kKeysAt + first_key * KeyTile::kChunk;
        const uint32_t queries = stage + first * QueryTile::kChunk, mask = stage + kMaskAt + half * kMaskBytes;
        RowFragments<HeadDim> q[kM], grad_out[kM];
#pragma unroll
        for (int m = 0; m < kM; ++m) {
          load_fragments<QueryTile>(q[m], queries + 16 * m * QueryTile::kChunk, lane);
          load_fragments<QueryTile>(grad_out[m], queries + kGradOutAt + 16 * m * QueryTile::kChunk, lane);
        }
        const QueryRows<kM> rows(
            [&](int query) {
              const int of_block = first + query;
              const float2 found =
                  ptx::load_shared<float2>(stage + kStatisticsAt + of_block / kStatisticsBlock * kStatisticsBytes +
                                           of_block % kStatisticsBlock * 8);
              return QueryStatistics{found.x, found.y};
            },
            lane);
        with_kinds(mask, rows.any_uniform, [&]<MaskTile Mask, bool SomeUniform>() {
          const bool selects = Mask == MaskTile::kValues && mask_kind(mask) == MaskTile::kSelected;
#pragma unroll
          for (int at = 0; at < kTileKeys; at += 8 * kTiles) {
            const uint32_t here = keys + at * KeyTile::kChunk;
            float grad[kM][kTiles][4], weights[kM][kTiles][4];
            logit_gradients<T, KeyTile, PairTile, Form, Mask, SomeUniform>(
                grad, weights, q, grad_out, rows, here, here + KeyTile::kBytes, bias_rows, first_key + at,
                p.Lk - item.key - first_key - at, mask + 8 * at + 16 * (lane % 4), selects, p, lane);
            if (selects) replace_hidden(grad, mask + 8 * at + 16 * (lane % 4), 0);
#pragma unroll
            for (int e = 0; e < kM * kTiles * 4; ++e) {
              sums[e / (4 * kTiles)][at / 8 + e / 4 % kTiles][e % 4] += grad[e / (4 * kTiles)][e / 4 % kTiles][e % 4];
            }
          }
        });
        ring.leave(lane);
      }
      bias.leave(lane);
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        finish_grad_pair(params, sums[m], item, item.query + first + 16 * m, item.key + first_key);
      }
    }
  }

  static __device__ void run(const BackwardParams& params, uint32_t shared) {
    run_block<Stages, Bias, kConsumers, kSize.blocks>(
        shared, [&](Stages ring, Bias bias) { produce(params, ring, bias); },
        [&](Stages ring, Bias bias) { consume(params, ring, bias); });
  }
};

}  // namespace longfold::kernels::cuda::mma
