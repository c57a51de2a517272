// grad_q on tensor cores. Items, tiles and warps are those of the forward pass; a consumer warp keeps its queries and
// their output gradients in registers, and adds up logit gradients times keys.
#pragma once

#include "longfold/kernels/cuda/mma/key_tiles.cuh"
#include "longfold/kernels/cuda/mma/logit_gradients.cuh"

namespace longfold::kernels::cuda::mma {

template <class T, int HeadDim, BiasForm Form, bool OneRow>
struct GradQ {
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
  static_assert(kStages >= 2);

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
      Tiles::load_keys(producer, p, item, ring);
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
        load_fragments<QueryTile>(q[m], Tiles::queries(ring.stage(), row, first + 16 * m), lane);
      ring.leave(lane);
      ring.wait_until_full();
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        load_fragments<QueryTile>(grad_out[m], Tiles::queries(ring.stage(), row, first + 16 * m), lane);
      }
      ring.leave(lane);
      const float shift = shift_of_row(p.mask, bias_offset(p.mask, item.b, n, item.h), p.Lk);
      const QueryRows<kM> rows(
          [&](int query) {
            const int position = item.first + first + query;
            return statistics_from(read_statistics(params, item.b, n, item.h, position), params, shift, position);
          },
          lane);
      for (int key = 0; key < p.Lk; key += kTileKeys) {
        ring.wait_until_full();
        const uint32_t keys = Tiles::keys(ring.stage(), row), values = Tiles::values(ring.stage(), row);
        const uint32_t bias = Tiles::bias(ring.stage(), first), mask = Tiles::mask(ring.stage(), row);
        with_kinds(mask, rows.any_uniform, [&]<MaskTile Mask, bool SomeUniform>() {
#pragma unroll
          for (int at = 0; at < kTileKeys; at += 8 * kTiles) {
            const uint32_t here = keys + at * KeyTile::kChunk;
            float grad[kM][kTiles][4], weights[kM][kTiles][4];
            logit_gradients<T, KeyTile, PairTile, Form, Mask, SomeUniform>(
                grad, weights, q, grad_out, rows, here, values + at * KeyTile::kChunk, bias, at, p.Lk - key - at,
                mask + 8 * at + 16 * (lane % 4), p, lane);
            add_rows(of_gradients, grad);
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
        finish(params, sums[m], sums[kM + m], of_gradients[m], rows.minus_delta[m], item, n,
               item.first + first + 16 * m, lane);
      }
    }
  }

  // A row's logit gradients add up to the gradient of its log_sum_exp. What they add up to beyond that is the error of
  // delta, which came from the rounded output: it is taken off here, and off the delta that is stored for the kernels
  // that follow.
  static __device__ void finish(const BackwardParams& params, float (&grad_q)[HeadDim / 8][4],
                                const float (&keys)[HeadDim / 8][4], const float (&of_gradients)[2],
                                const float (&minus_delta)[2], const ThisItem& item, int n, int first, int lane) {
    const Problem& p = params.problem;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float error = of_gradients[half];
      error += ptx::shuffle_xor(error, 1);
      error += ptx::shuffle_xor(error, 2);
      const int query = first + 8 * half + lane / 4;
      if (query < p.Lq) {
        error -= grad_lse_at(params, item.b, n, item.h, query);
        if (!(minus_delta[half] == minus_delta[half] && error == error)) error = 0;  // NaN stays where it is
        if (lane % 4 == 0) minus_delta_at(params, item.b, n, item.h, query) = minus_delta[half] - error;
      }
#pragma unroll
      for (int u = 0; u < HeadDim / 8; ++u) {
        grad_q[u][2 * half] -= error * keys[u][2 * half];
        grad_q[u][2 * half + 1] -= error * keys[u][2 * half + 1];
      }
    }
    const float factor[2] = {p.scale, p.scale};
    store_rows<T, HeadDim>(params.grad_q, rows_of(params.grad_q, item.b, n, item.h), first, p.Lq, grad_q, factor);
  }

  static __device__ void run(const BackwardParams& params, uint32_t shared) {
    if (threadIdx.x == 0) {
      Stages::init(shared);
      ptx::fence_barrier_init();
    }
    ptx::sync_block();
    const bool produces = threadIdx.x / kLanes >= kConsumers;
    share_registers<kConsumers, kSize.blocks>(produces);
    if (produces)
      produce(params, Stages(shared));
    else
      consume(params, Stages(shared));
  }
};

}  // namespace longfold::kernels::cuda::mma
