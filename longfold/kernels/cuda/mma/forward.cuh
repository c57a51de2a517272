// Forward pass on tensor cores (mma.sync: compute capability 8.0 and later), 16-bit types.
//
// Blocks go through items in turn: an item is kQueries queries of kRows rows n of one b and h. The producer brings, for
// each item, its queries, then tiles of keys; a consumer warp has kM * 16 queries of one row n, which it keeps in
// registers.
#pragma once

#include "longfold/kernels/cuda/mma/key_tiles.cuh"
#include "longfold/kernels/cuda/mma/softmax.cuh"

namespace longfold::kernels::cuda::mma {

template <class T, int HeadDim, BiasForm Form, bool OneRow>
struct Forward {
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
  using Running = RunningRows<kM, HeadDim>;

  // What a consumer reads of a stage: addresses of its row's keys and values, of its queries' biases, and of the masks
  // of its lane's first two keys.
  struct Place {
    uint32_t keys, values, bias, mask;
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
    if constexpr (Mask == MaskTile::kValues) add_mask(s, mask);
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
      add_weighted_rows<T, KeyTile>(rows.out, weights[step], place.values + step * kStepKeys * KeyTile::kChunk, lane);
    }
  }

  static __device__ void produce(const Problem& p, Stages ring) {
    const Producer producer(kConsumers);
    for (uint32_t i = blockIdx.x; i < ThisItem::count(p, p.Lq); i += gridDim.x) {
      const ThisItem item(p, p.Lq, i);
      Tiles::load_queries(producer, p, p.q, p.maps.q, item, ring);
      Tiles::load_keys(producer, p, item, ring);
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
        load_fragments<QueryTile>(q[m], Tiles::queries(ring.stage(), row, first + 16 * m), lane);
      }
      ring.leave(lane);
      MaskRow mask_row{};
      for (int key = 0; key < p.Lk; key += kTileKeys) {
        ring.wait_until_full();
        const uint32_t stage = ring.stage(), mask = Tiles::mask(stage, row);
        const Place place{Tiles::keys(stage, row), Tiles::values(stage, row), Tiles::bias(stage, first),
                          mask + 16 * (lane % 4)};
        with_mask_kind(mask, [&]<MaskTile Mask>() { tile<Mask>(running, q, place, p.scale, lane, key == 0); });
        if (key + kTileKeys >= p.Lk) mask_row = read_mask_row(mask);
        ring.leave(lane);
      }
      if (item.n + row < p.N) finish(params, running, mask_row, item, item.n + row, item.first + first);
    }
  }

  // The mean of v, as accumulators hold it.
  static __device__ void mean_of_values(const Problem& p, int b, int n, int h, float (&mean)[HeadDim / 8][4]) {
    const int lane = lane_of_warp();
    const char* values = rows_of(p.v, b, n, h) + 4 * (lane % 4) * p.v.strides[4];
    float sums[HeadDim / 8][2] = {};
    for (int key = lane / 4; key < p.Lk; key += 8) {
      const char* from = values + 2 * key * p.v.strides[2];
#pragma unroll
      for (int i = 0; i < HeadDim / 4; ++i) {
        const char* at = from + 2 * (i / 2 * 8 + i % 2) * p.v.strides[4];
        sums[i / 2][i % 2] += ptx::unpack<T>(*reinterpret_cast<const uint16_t*>(at)).x;
      }
    }
#pragma unroll
    for (int i = 0; i < HeadDim / 4; ++i) {
      float sum = sums[i / 2][i % 2];
      for (int far = 4; far < kLanes; far *= 2) sum += ptx::shuffle_xor(sum, far);
      mean[i / 2][i % 2] = mean[i / 2][2 + i % 2] = sum / static_cast<float>(p.Lk);
    }
  }

  static __device__ void finish(const ForwardParams& params, Running& running, const MaskRow& mask,
                                const ThisItem& item, int n, int first_query) {
    constexpr float kLn2 = 0.6931471805599453f, kLn2Rest = -1.9046543e-9f;  // ln 2 less its fp32 number
    const Problem& p = params.problem;
    const int lane = lane_of_warp();
    char* const out = const_cast<char*>(rows_of(params.out, item.b, n, item.h));
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      float factor[2];
      bool masked[2];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float sum = running.sum[m][half];
        sum += ptx::shuffle_xor(sum, 1);
        sum += ptx::shuffle_xor(sum, 2);
        const float reference = -running.minus_reference[m][half];  // in units of log2 e
        const bool all_hidden = reference <= kHiddenLogit;
        const float of_reference = fmaf(reference, kLn2, mask.shift);
        masked[half] = (all_hidden || of_reference <= kHidesAt) && sum == sum;
        factor[half] = masked[half] ? 0 : 1 / sum;
        const int query = first_query + 16 * m + 8 * half + lane / 4;
        if (query < p.Lq && lane % 4 == 0) {
          const float log_of_sum = logf(sum);
          float lse = of_reference + log_of_sum, correction = 1;
          if (masked[half]) {
            lse = all_hidden ? mask.largest : of_reference;
          } else {
            // What roundings left out of reference * ln 2 + shift + log_of_sum.
            const float rest = fmaf(reference, kLn2, -lse) + mask.shift;
            correction = expf(-(rest + (log_of_sum + reference * kLn2Rest)));
          }
          const int64_t at = item.b * params.lse_strides[0] + n * params.lse_strides[1] +
                             item.h * params.lse_strides[2] + query * params.lse_strides[3];
          params.log_sum_exp[at] = lse;
          params.lse_correction[at] = correction;
        }
      }
      if (masked[0] || masked[1]) {
#pragma unroll
        for (int i = 0; i < HeadDim / 2; ++i) {
          if (masked[i % 4 / 2]) running.out[m][i / 4][i % 4] = 0;
        }
      }
      if (p.mean_if_masked && ptx::any(masked[0] || masked[1])) {
        float mean[HeadDim / 8][4];
        mean_of_values(p, item.b, n, item.h, mean);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          if (!masked[half]) continue;
          factor[half] = 1;
#pragma unroll
          for (int u = 0; u < HeadDim / 8; ++u) {
            running.out[m][u][2 * half] = mean[u][2 * half];
            running.out[m][u][2 * half + 1] = mean[u][2 * half + 1];
          }
        }
      }
      store_rows<T, HeadDim>(params.out, out, first_query + 16 * m, p.Lq, running.out[m], factor);
    }
  }

  static __device__ void run(const ForwardParams& params, uint32_t shared) {
    if (threadIdx.x == 0) {
      Stages::init(shared);
      ptx::fence_barrier_init();
    }
    ptx::sync_block();
    const bool produces = threadIdx.x / kLanes >= kConsumers;
    share_registers<kConsumers, kSize.blocks>(produces);
    if (produces)
      produce(params.problem, Stages(shared));
    else
      consume(params, Stages(shared));
  }
};

}  // namespace longfold::kernels::cuda::mma
