// Tiles of queries on their way to grad_kv: queries, gradients of outputs, statistics, pair bias; before them, for each
// item, its keys and values.
#pragma once

#include "longfold/kernels/cuda/mma/items.cuh"
#include "longfold/kernels/cuda/mma/statistics.cuh"

namespace longfold::kernels::cuda::mma {

template <int HeadDim, BiasForm Form, int NumRows, int Keys>
struct QueryTiles {
  static constexpr int kPitch = row_pitch(HeadDim), kBiasPitch = bias_pitch(Form, Keys);
  static constexpr int kQueryBytes = kTileKeys * kPitch;  // of one row n
  static constexpr int kBiasAt = larger_of(2 * NumRows * kQueryBytes, NumRows * Keys * kPitch);
  static constexpr int kStatisticsAt = kBiasAt + kTileKeys * kBiasPitch;
  static constexpr int kStageBytes = kStatisticsAt + NumRows * kStatisticsBytes;
  using ThisItem = Item<NumRows, Keys>;

  static __device__ void load_keys(uint32_t stage, const Problem& p, const Rows& keys, const ThisItem& item) {
#pragma unroll
    for (int r = 0; r < NumRows; ++r) {
      const int n = min(item.n + r, p.N - 1);
      load_rows<HeadDim, Keys>(stage + r * Keys * kPitch, keys, rows_of(keys, item.b, n, item.h), item.first,
                               item.n + r < p.N ? p.Lk : 0);
    }
  }

  template <class Stages>
  static __device__ void load_item(const BackwardParams& params, const ThisItem& item, Stages& ring) {
    const Problem& p = params.problem;
    ring.wait_until_empty();
    load_keys(ring.stage(), p, p.k, item);
#pragma unroll
    for (int r = 0; r < NumRows; ++r) {
      const MaskRow mask = look_at_mask(p.mask, bias_offset(p.mask, item.b, min(item.n + r, p.N - 1), item.h), p.Lk);
      if (lane_of_warp() == 0) ptx::store_shared(ring.stage() + kStatisticsAt + 4 * r, mask.shift);
    }
    ring.hand_over();
    ring.wait_until_empty();
    load_keys(ring.stage(), p, p.v, item);
    ring.hand_over();
    const int64_t pair = bias_offset(p.pair, item.b, item.n, item.h);
    for (int query = 0; query < p.Lq; query += kTileKeys) {
      ring.wait_until_empty();
#pragma unroll
      for (int r = 0; r < NumRows; ++r) {
        const int n = min(item.n + r, p.N - 1), end = item.n + r < p.N ? p.Lq : 0;
        const uint32_t queries = ring.stage() + 2 * r * kQueryBytes;
        load_rows<HeadDim, kTileKeys>(queries, p.q, rows_of(p.q, item.b, n, item.h), query, end);
        load_rows<HeadDim, kTileKeys>(queries + kQueryBytes, params.grad_out,
                                      rows_of(params.grad_out, item.b, n, item.h), query, end);
        load_statistics(ring.stage() + kStatisticsAt + r * kStatisticsBytes, params, item.b, n, item.h, query);
      }
      load_pair_bias<Form, kTileKeys, Keys>(ring.stage() + kBiasAt, p.pair, pair, query, p.Lq, item.first, p.Lk);
      ring.hand_over();
    }
  }

  static __device__ uint32_t keys(uint32_t stage, int row, int first) { return stage + (row * Keys + first) * kPitch; }
  static __device__ float mask_shift(uint32_t stage, int row) {
    return ptx::load_shared<float>(stage + kStatisticsAt + 4 * row);
  }
  static __device__ uint32_t queries(uint32_t stage, int row) { return stage + 2 * row * kQueryBytes; }
  static __device__ uint32_t bias(uint32_t stage, int first) { return stage + kBiasAt + first * bias_size(Form); }
  static __device__ uint32_t statistics(uint32_t stage, int row) {
    return stage + kStatisticsAt + row * kStatisticsBytes;
  }
};

}  // namespace longfold::kernels::cuda::mma
