// The pair bias's gradient on tensor cores: logit gradients summed over rows n. A block has a tile of queries by keys
// and goes through the rows n of its group one after another; the sums stay in registers, in a fixed order, and are
// written once. There are up to kMostPairGroups groups, each with a plane of its own, which are added up in their
// order.
#pragma once

#include "longfold/kernels/cuda/mma/logit_gradients.cuh"

namespace longfold::kernels::cuda::mma {

template <class T, int HeadDim, BiasForm Form>
struct GradPair {
  static constexpr TileSize kSize = grad_pair_tile_size(HeadDim);
  static constexpr int kM = kSize.query_tiles, kWarps = kSize.warps;
  static constexpr int kConsumers = 2 * kWarps, kThreads = kLanes * (kConsumers + 1);
  static constexpr int kQueries = 16 * kM * kWarps, kKeys = 2 * kTileKeys;
  static constexpr int kPitch = row_pitch(HeadDim), kBiasPitch = bias_pitch(Form, kKeys);
  // A stage: queries, gradients of outputs, keys, values, two tiles of the mask.
  static constexpr int kKeysAt = 2 * kQueries * kPitch, kMaskAt = kKeysAt + 2 * kKeys * kPitch;
  static constexpr int kStageBytes = larger_of(kMaskAt + 2 * kMaskBytes, kQueries* kBiasPitch);
  static constexpr int kBiasBytes = kQueries * kBiasPitch;  // stays while the rows go by
  static constexpr int kStages = stages_in(kMostSharedBytes - 1024 - 128 - kBiasBytes, kStageBytes);
  static constexpr int kTiles = Head<HeadDim>::kOdd ? 4 : 2;  // of 8 keys at a time
  static_assert(kStages >= 1);

  using Stages = Ring<kStages, kStageBytes, kConsumers>;
  using Bias = Ring<1, kBiasBytes, kConsumers>;
  static constexpr int kSharedBytes = Stages::kBytes + Bias::kBytes;

  struct TileItem {
    int b, h, query, key, begin, end, group;  // rows n from begin to end

    __device__ TileItem(const BackwardParams& params, int64_t index) {
      const Problem& p = params.problem;
      const int queries = (p.Lq + kQueries - 1) / kQueries, keys = (p.Lk + kKeys - 1) / kKeys;
      key = static_cast<int>(index % keys) * kKeys;
      index /= keys;
      query = static_cast<int>(index % queries) * kQueries;
      index /= queries;
      group = static_cast<int>(index % params.pair_groups);
      index /= params.pair_groups;
      h = static_cast<int>(index % p.H);
      b = static_cast<int>(index / p.H);
      const int rows = (p.N + params.pair_groups - 1) / params.pair_groups;
      begin = group * rows;
      end = min(begin + rows, p.N);
    }
  };

  __host__ __device__ static int64_t num_items(const BackwardParams& params) {
    const Problem& p = params.problem;
    return int64_t{p.B} * p.H * params.pair_groups * ((p.Lq + kQueries - 1) / kQueries) * ((p.Lk + kKeys - 1) / kKeys);
  }

  static __device__ void produce(const BackwardParams& params, Stages ring, Bias bias) {
    const Problem& p = params.problem;
    for (int64_t i = blockIdx.x; i < num_items(params); i += gridDim.x) {
      const TileItem item(params, i);
      bias.wait_until_empty();
      load_pair_bias<Form, kQueries, kKeys>(bias.stage(), p.pair, bias_offset(p.pair, item.b, item.begin, item.h),
                                            item.query, p.Lq, item.key, p.Lk);
      bias.hand_over();
      for (int n = item.begin; n < item.end; ++n) {
        const int64_t mask_offset = bias_offset(p.mask, item.b, n, item.h);
        const float shift = look_at_mask(p.mask, mask_offset, p.Lk).shift;
        float2 values[2];
#pragma unroll
        for (int t = 0; t < 2; ++t) values[t] = read_mask(p.mask, mask_offset, item.key + t * kTileKeys, p.Lk);
        ring.wait_until_empty();
        const uint32_t stage = ring.stage(), keys = stage + kKeysAt;
        load_rows<HeadDim, kQueries>(stage, p.q, rows_of(p.q, item.b, n, item.h), item.query, p.Lq);
        load_rows<HeadDim, kQueries>(stage + kQueries * kPitch, params.grad_out,
                                     rows_of(params.grad_out, item.b, n, item.h), item.query, p.Lq);
        load_rows<HeadDim, kKeys>(keys, p.k, rows_of(p.k, item.b, n, item.h), item.key, p.Lk);
        load_rows<HeadDim, kKeys>(keys + kKeys * kPitch, p.v, rows_of(p.v, item.b, n, item.h), item.key, p.Lk);
#pragma unroll
        for (int t = 0; t < 2; ++t) {
          store_mask(stage + kMaskAt + t * kMaskBytes, values[t], shift, p.scale, item.key + t * kTileKeys, p.Lk);
        }
        ring.hand_over();
      }
    }
  }

  static __device__ void consume(const BackwardParams& params, Stages ring, Bias bias) {
    const Problem& p = params.problem;
    const int warp = static_cast<int>(threadIdx.x) / kLanes, first = warp % kWarps * kM * 16;
    const int half = warp / kWarps, first_key = half * kTileKeys;
    for (int64_t i = blockIdx.x; i < num_items(params); i += gridDim.x) {
      const TileItem item(params, i);
      float sums[kM][kTileKeys / 8][4] = {};
      bias.wait_until_full();
      const uint32_t bias_tile = bias.stage() + first * kBiasPitch + first_key * bias_size(Form);
      for (int n = item.begin; n < item.end; ++n) {
        const QueryRows<kM> rows(params, item.b, n, item.h, item.query + first);
        ring.wait_until_full();
        const uint32_t stage = ring.stage(), keys = stage + kKeysAt + first_key * kPitch;
        const uint32_t mask = stage + kMaskAt + half * kMaskBytes;
        RowFragments<HeadDim> q[kM], grad_out[kM];
#pragma unroll
        for (int m = 0; m < kM; ++m) {
          load_fragments<HeadDim>(q[m], stage + (first + 16 * m) * kPitch);
          load_fragments<HeadDim>(grad_out[m], stage + (kQueries + first + 16 * m) * kPitch);
        }
        with_mask_kind(mask, [&]<MaskTile Mask>() {
#pragma unroll
          for (int at = 0; at < kTileKeys; at += 8 * kTiles) {
            const uint32_t here = keys + at * kPitch;
            float grad[kM][kTiles][4];
            logit_gradients<T, HeadDim, Form, Mask>(grad, q, grad_out, rows, here, here + kKeys * kPitch,
                                                    bias_tile + at * bias_size(Form), kBiasPitch,
                                                    mask + 8 * at + 16 * (lane_of_warp() % 4), p);
#pragma unroll
            for (int i = 0; i < kM * kTiles * 4; ++i) {
              sums[i / (4 * kTiles)][at / 8 + i / 4 % kTiles][i % 4] += grad[i / (4 * kTiles)][i / 4 % kTiles][i % 4];
            }
          }
        });
        ring.leave();
      }
      bias.leave();
      finish(params, sums, item, item.query + first, item.key + first_key);
    }
  }

  static __device__ void finish(const BackwardParams& params, const float (&sums)[kM][kTileKeys / 8][4],
                                const TileItem& item, int query, int key) {
    const Problem& p = params.problem;
    float* const plane =
        params.pair_partials + ((int64_t{item.group} * p.B + item.b) * p.H + item.h) * p.Lq * int64_t{p.Lk};
    const bool in_twos = p.Lk % 2 == 0;
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        const int i = query + 16 * m + 8 * row + lane_of_warp() / 4;
        if (i >= p.Lq) continue;
#pragma unroll
        for (int t = 0; t < kTileKeys / 8; ++t) {
          const int j = key + 8 * t + lane_of_warp() % 4 * 2;
          float* const to = plane + i * int64_t{p.Lk} + j;
          const float x = sums[m][t][2 * row], y = sums[m][t][2 * row + 1];
          if (in_twos && j < p.Lk) {
            *reinterpret_cast<float2*>(to) = float2{x, y};
          } else {
            if (j < p.Lk) to[0] = x;
            if (j + 1 < p.Lk) to[1] = y;
          }
        }
      }
    }
  }

  static __device__ void run(const BackwardParams& params, uint32_t shared) {
    const uint32_t bias = shared + Stages::kBytes;
    if (threadIdx.x == 0) {
      Stages::init(shared);
      Bias::init(bias);
    }
    ptx::sync_block();
    if (threadIdx.x / kLanes == kConsumers)
      produce(params, Stages(shared), Bias(bias));
    else
      consume(params, Stages(shared), Bias(bias));
  }
};

}  // namespace longfold::kernels::cuda::mma
