// Masks: what is added to the logits of a key, for all queries of a row n.
//
// Most masks show a key (0) or hide it (-5e8 or less: its weight is zero beside any key that is shown). A tile of such
// keys costs the consumers nothing: their products start from 0 or from kHiddenLogit. Of other masks a shift, the
// largest value of the row's first tile, is taken off, so that a constant costs the logits no digits.
#pragma once

#include "longfold/kernels/cuda/mma/loader.cuh"

namespace longfold::kernels::cuda::mma {

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kHidesAt = -5e8f;
constexpr float kHiddenLogit = -1e30f;  // as the kernels hold it; far below all others, and still a number

enum class MaskTile : uint32_t { kAllShown, kSomeHidden, kValues };

// In shared memory, of a tile of keys: for each two of them (x, y, x, y), what products start from or what is added;
// then the kind of tile, the row's shift and its largest value so far.
constexpr int kMaskKindAt = 8 * kTileKeys, kMaskShiftAt = kMaskKindAt + 4, kMaskLargestAt = kMaskKindAt + 8;
static_assert(kMaskLargestAt + 4 <= kMaskBytes);

__device__ __forceinline__ bool is_value(float mask) {
  return !(mask == 0 || mask <= kHidesAt);
}

// The values of keys 2 lane and 2 lane + 1 of a tile; hidden where there are none.
__device__ __forceinline__ float2 read_mask(const Bias& mask, int64_t offset, int first_key, int num_keys) {
  const int key = first_key + 2 * lane_of_warp();
  float2 two{key < num_keys ? 0 : -INFINITY, key + 1 < num_keys ? 0 : -INFINITY};
  if (mask.data == nullptr) return two;
  const int64_t at = offset + key * mask.strides[4];
  if (key < num_keys) two.x = read_bias(mask, at);
  if (key + 1 < num_keys) two.y = read_bias(mask, at + mask.strides[4]);
  return two;
}

__device__ __forceinline__ float largest_of_warp(float value) {
  for (int far = kLanes / 2; far > 0; far /= 2) value = fmaxf(value, ptx::shuffle_xor(value, far));
  return value;
}

// From the values of a row's first tile, by all lanes.
__device__ __forceinline__ float shift_of(float2 first_values) {
  if (!ptx::any(is_value(first_values.x) || is_value(first_values.y))) return 0;
  const float largest = largest_of_warp(fmaxf(first_values.x, first_values.y));
  return largest > kHidesAt && largest < INFINITY ? largest : 0;
}
__device__ __forceinline__ float shift_of_row(const Bias& mask, int64_t offset, int num_keys) {
  return mask.data == nullptr ? 0 : shift_of(read_mask(mask, offset, 0, num_keys));
}

// By all lanes of a warp.
__device__ __forceinline__ void store_mask(uint32_t to, float2 values, float shift, float scale) {
  const int lane = lane_of_warp();
  const bool hides_x = values.x <= kHidesAt, hides_y = values.y <= kHidesAt;
  MaskTile kind = MaskTile::kValues;
  if (shift != 0 || ptx::any(is_value(values.x) || is_value(values.y))) {
    const float x = values.x - shift, y = values.y - shift;
    ptx::store_shared(to + 16 * lane, float4{x, y, x, y});
  } else {
    kind = ptx::any(hides_x || hides_y) ? MaskTile::kSomeHidden : MaskTile::kAllShown;
    const float hidden = kHiddenLogit / scale, x = hides_x ? hidden : 0, y = hides_y ? hidden : 0;
    ptx::store_shared(to + 16 * lane, float4{x, y, x, y});
  }
  if (lane == 0) ptx::store_shared(to + kMaskKindAt, static_cast<uint32_t>(kind));
}

// Of a row n, once its last tile is there.
struct MaskRow {
  float shift, largest;
};
__device__ __forceinline__ MaskRow read_mask_row(uint32_t tile) {
  return {ptx::load_shared<float>(tile + kMaskShiftAt), ptx::load_shared<float>(tile + kMaskLargestAt)};
}

// The masks of a row n, tile by tile, each read while the one before is used.
class MaskReader {
 public:
  __device__ MaskReader(const Problem& p, int64_t offset)
      : offset_(offset), values_(read_mask(p.mask, offset, 0, p.Lk)) {
    shift_ = p.mask.data == nullptr ? 0 : shift_of(values_);
  }

  __device__ void store_next(uint32_t to, const Problem& p, int first_key) {
    largest_ = fmaxf(largest_, fmaxf(values_.x, values_.y));
    store_mask(to, values_, shift_, p.scale);
    if (first_key + kTileKeys >= p.Lk) {
      const float largest = largest_of_warp(largest_);
      if (lane_of_warp() == 0) {
        ptx::store_shared(to + kMaskShiftAt, shift_);
        ptx::store_shared(to + kMaskLargestAt, largest);
      }
    }
    values_ = read_mask(p.mask, offset_, first_key + kTileKeys, p.Lk);
  }

 private:
  int64_t offset_;
  float2 values_;
  float shift_, largest_ = -INFINITY;
};

}  // namespace longfold::kernels::cuda::mma
