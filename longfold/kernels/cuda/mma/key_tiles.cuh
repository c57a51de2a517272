// The producer's side of forward and grad_q: for each item the queries of its rows n, then tiles of keys, values, pair
// bias and masks.
#pragma once

#include "longfold/kernels/cuda/mma/items.cuh"
#include "longfold/kernels/cuda/mma/mask.cuh"

namespace longfold::kernels::cuda::mma {

// How a stage holds them. In one of queries there are rows from its start, and the masks' shift and largest value.
template <int HeadDim, BiasForm Form, int NumRows, int Queries>
struct KeyTiles {
  static constexpr int kPitch = row_pitch(HeadDim), kBiasPitch = bias_pitch(Form, kTileKeys);
  static constexpr int kKeyBytes = kTileKeys * kPitch;  // of one row n
  static constexpr int kBiasAt = larger_of(2 * NumRows * kKeyBytes, NumRows * Queries * kPitch);
  static constexpr int kMaskAt = kBiasAt + Queries * kBiasPitch;
  static constexpr int kStageBytes = kMaskAt + NumRows * kMaskBytes;
  using ThisItem = Item<NumRows, Queries>;

  // The queries of item.n and the following rows.
  static __device__ void load_queries(uint32_t stage, const Problem& p, const Rows& queries, const ThisItem& item) {
#pragma unroll
    for (int r = 0; r < NumRows; ++r) {
      const int n = min(item.n + r, p.N - 1);
      load_rows<HeadDim, Queries>(stage + r * Queries * kPitch, queries, rows_of(queries, item.b, n, item.h),
                                  item.first, item.n + r < p.N ? p.Lq : 0);
    }
  }

  // All that comes for an item; `others` are further queries, such as gradients of outputs, and may be null.
  template <class Stages>
  static __device__ void load_item(const Problem& p, const Rows* others, const ThisItem& item, Stages& ring) {
    MaskRow masks[NumRows];
    float2 values[NumRows];
    int64_t offsets[NumRows];
    ring.wait_until_empty();
    load_queries(ring.stage(), p, p.q, item);
#pragma unroll
    for (int r = 0; r < NumRows; ++r) {
      offsets[r] = bias_offset(p.mask, item.b, min(item.n + r, p.N - 1), item.h);
      masks[r] = look_at_mask(p.mask, offsets[r], p.Lk);
      values[r] = read_mask(p.mask, offsets[r], 0, p.Lk);
      if (lane_of_warp() == 0) {
        ptx::store_shared(ring.stage() + kMaskAt + 8 * r, masks[r].shift);
        ptx::store_shared(ring.stage() + kMaskAt + 8 * r + 4, masks[r].largest);
      }
    }
    ring.hand_over();
    if (others != nullptr) {
      ring.wait_until_empty();
      load_queries(ring.stage(), p, *others, item);
      ring.hand_over();
    }
    const int64_t pair = bias_offset(p.pair, item.b, item.n, item.h);
    for (int key = 0; key < p.Lk; key += kTileKeys) {
      ring.wait_until_empty();
#pragma unroll
      for (int r = 0; r < NumRows; ++r) {
        const int n = min(item.n + r, p.N - 1), end = item.n + r < p.N ? p.Lk : 0;
        const uint32_t keys = ring.stage() + 2 * r * kKeyBytes;
        load_rows<HeadDim, kTileKeys>(keys, p.k, rows_of(p.k, item.b, n, item.h), key, end);
        load_rows<HeadDim, kTileKeys>(keys + kKeyBytes, p.v, rows_of(p.v, item.b, n, item.h), key, end);
        store_mask(ring.stage() + kMaskAt + r * kMaskBytes, values[r], masks[r].shift, p.scale, key, p.Lk);
        values[r] = read_mask(p.mask, offsets[r], key + kTileKeys, p.Lk);
      }
      load_pair_bias<Form, Queries, kTileKeys>(ring.stage() + kBiasAt, p.pair, pair, item.first, p.Lq, key, p.Lk);
      ring.hand_over();
    }
  }

  static __device__ MaskRow mask_of(uint32_t stage, int row) {
    return {ptx::load_shared<float>(stage + kMaskAt + 8 * row), ptx::load_shared<float>(stage + kMaskAt + 8 * row + 4)};
  }
  static __device__ uint32_t queries(uint32_t stage, int row, int first) {
    return stage + (row * Queries + first) * kPitch;
  }
  static __device__ uint32_t keys(uint32_t stage, int row) { return stage + 2 * row * kKeyBytes; }
  static __device__ uint32_t mask(uint32_t stage, int row) { return stage + kMaskAt + row * kMaskBytes; }
  static __device__ uint32_t bias(uint32_t stage, int first) { return stage + kBiasAt + first * kBiasPitch; }
};

}  // namespace longfold::kernels::cuda::mma
