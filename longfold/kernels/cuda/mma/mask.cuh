// Masks: what is added to the logits of a key, for all queries of a row n.
//
// Most masks show a key (0) or hide it (-5e8 or less: its weight is zero beside any key that is shown). A tile of such
// keys costs the consumers nothing: their products start from 0 or from kHiddenLogit. In other masks the row's largest
// value, its shift, is taken off first, so that a constant costs the logits no digits.
#pragma once

#include "longfold/kernels/cuda/mma/loader.cuh"

namespace longfold::kernels::cuda::mma {

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kHidesAt = -5e8f;
constexpr float kHiddenLogit = -1e30f;  // as the kernels hold it; far below all others, and still a number

enum class MaskTile : uint32_t { kAllShown, kSomeHidden, kValues };

// Of a row n.
struct MaskRow {
  float shift;    // taken off all values; 0 where all keys are shown or hidden
  float largest;  // value
};

// By all lanes of a warp, which return the same.
__device__ inline MaskRow look_at_mask(const Bias& mask, int64_t offset, int num_keys) {
  if (mask.data == nullptr) return {0, 0};
  bool values = false;
  float largest = -INFINITY;
#pragma unroll 8
  for (int key = lane_of_warp(); key < num_keys; key += kLanes) {
    const float value = read_bias(mask, offset + key * mask.strides[4]);
    values |= !(value == 0 || value <= kHidesAt);
    largest = fmaxf(largest, value);
  }
  for (int far = 16; far > 0; far /= 2) largest = fmaxf(largest, ptx::shuffle_xor(largest, far));
  values = ptx::any(values);
  return {values && largest > kHidesAt && largest < INFINITY ? largest : 0, largest};
}

// The values of keys 2 lane and 2 lane + 1 of a tile, on their way.
__device__ __forceinline__ float2 read_mask(const Bias& mask, int64_t offset, int first_key, int num_keys) {
  float2 two = {0, 0};
  if (mask.data == nullptr) return two;
  const int key = first_key + 2 * lane_of_warp();
  const int64_t at = offset + key * mask.strides[4];
  if (key < num_keys) two.x = read_bias(mask, at);
  if (key + 1 < num_keys) two.y = read_bias(mask, at + mask.strides[4]);
  return two;
}

// Stores them as consumers read them: (x, y, x, y) for each two keys, what products start from or what is added; and
// what kind of tile it is.
__device__ __forceinline__ void store_mask(uint32_t to, float2 values, float shift, float scale, int first_key,
                                           int num_keys) {
  const int lane = lane_of_warp(), key = first_key + 2 * lane;
  const bool no_x = key >= num_keys, no_y = key + 1 >= num_keys;
  const bool hides_x = no_x || values.x <= kHidesAt, hides_y = no_y || values.y <= kHidesAt;
  const bool other = (!hides_x && !(values.x == 0)) || (!hides_y && !(values.y == 0));
  MaskTile kind = MaskTile::kAllShown;
  if (shift != 0 || ptx::any(other)) {
    kind = MaskTile::kValues;
    const float x = no_x ? -INFINITY : values.x - shift, y = no_y ? -INFINITY : values.y - shift;
    ptx::store_shared(to + 16 * lane, float4{x, y, x, y});
  } else if (ptx::any(hides_x || hides_y)) {
    kind = MaskTile::kSomeHidden;
    const float hidden = kHiddenLogit / scale, x = hides_x ? hidden : 0, y = hides_y ? hidden : 0;
    ptx::store_shared(to + 16 * lane, float4{x, y, x, y});
  }
  if (lane == 0) ptx::store_shared(to + 8 * kTileKeys, static_cast<uint32_t>(kind));
}

}  // namespace longfold::kernels::cuda::mma
