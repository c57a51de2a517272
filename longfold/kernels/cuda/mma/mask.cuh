// Masks: what is added to the logits of a key, for all queries of a row n.
//
// Most masks show a key (0) or hide it (-5e8 or less: its weight is zero beside any key that is shown). A tile of such
// keys costs the consumers nothing: their products start from 0 or from -inf. Of other masks a shift, the largest value
// of the row's first tile, is taken off, so that a constant costs the logits no digits. What a mask of bools hides may
// hold NaN: there the consumers replace logits, once all else is added, and their gradients.
#pragma once

#include <type_traits>

#include "longfold/kernels/cuda/mma/loader.cuh"
#include "longfold/kernels/evoformer_attention.h"

namespace longfold::kernels::cuda::mma {

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kHidesAt = -5e8f;
constexpr float kLowestReference = -1e38f;  // of logits (softmax.cuh): where all are -inf, so that their weights are 0

enum class MaskTile : uint32_t {
  kAllShown,
  kSomeHidden,
  kValues,
  kSelected,  // some are hidden by a mask of bools
};

// Whether products take care of a tile's mask, so that threads need not look at it.
__device__ __forceinline__ bool is_in_products(MaskTile kind) {
  return kind == MaskTile::kAllShown || kind == MaskTile::kSomeHidden;
}

// In shared memory, of a tile of keys: for each two of them (x, y, x, y), what products start from or what is added;
// then the kind of tile, the row's shift and the largest value of its hidden keys so far.
constexpr int kMaskKindAt = 8 * kTileKeys, kMaskShiftAt = kMaskKindAt + 4, kMaskLargestAt = kMaskKindAt + 8;
static_assert(kMaskLargestAt + 4 <= kMaskBytes);

__device__ __forceinline__ bool is_value(float mask) {
  return !(mask == 0 || mask <= kHidesAt);
}

// The values of a row's mask, for keys 2 lane and 2 lane + 1 of a tile. They are asked for, and read later.
class MaskOfLane {
 public:
  // `offset`: of the row, in elements. The first tile is that from first_key on. The mask is a kernel's parameter: what
  // is read of it anew takes no registers.
  __device__ __forceinline__ MaskOfLane(const Bias& mask, int64_t offset, int first_key) : mask_(&mask) {
    at_ = static_cast<const char*>(mask.data);
    if (at_ != nullptr) at_ += size() * offset + (first_key + 2 * lane_of_warp()) * to_next();
  }

  // Asks for the values of the tile, which is one of num_keys keys from its first one on, and goes on to the next one.
  __device__ __forceinline__ void ask(int num_keys) {
    left_ = num_keys - 2 * lane_of_warp();
    x_ = y_ = 0;
    if (at_ == nullptr) return;
    const DType dtype = mask_->dtype;
    if (dtype == DType::kBFloat16 || dtype == DType::kFloat16)
      ask<uint16_t>();
    else if (dtype == DType::kFloat32)
      ask<uint32_t>();
    else if (dtype == DType::kBool)
      ask<uint8_t>();
    else
      ask<double>();
    at_ += kTileKeys * to_next();
  }

  // What was asked for; hidden where there are no keys.
  [[nodiscard]] __device__ __forceinline__ float2 values() const {
    return {left_ > 0 ? number(x_) : -INFINITY, left_ > 1 ? number(y_) : -INFINITY};
  }

 private:
  template <class Element>
  __device__ __forceinline__ void ask() {
    const auto read = [](const char* from) {
      const Element element = *reinterpret_cast<const Element*>(from);
      if constexpr (std::is_same_v<Element, double>)
        return __float_as_uint(static_cast<float>(element));
      else
        return uint32_t{element};
    };
    if (left_ > 0) x_ = read(at_);
    if (left_ > 1) y_ = read(at_ + to_next());
  }

  [[nodiscard]] __device__ __forceinline__ float number(uint32_t bits) const {
    const DType dtype = mask_->dtype;
    if (dtype == DType::kBFloat16) return ptx::unpack<bfloat16>(bits).x;
    if (dtype == DType::kFloat16) return ptx::unpack<float16>(bits).x;
    if (dtype == DType::kBool) return bits != 0 ? 0 : kHiddenLogit;
    return __uint_as_float(bits);
  }

  [[nodiscard]] __device__ __forceinline__ int64_t size() const {
    const DType dtype = mask_->dtype;
    return dtype == DType::kFloat64 ? 8 : dtype == DType::kFloat32 ? 4 : dtype == DType::kBool ? 1 : 2;
  }
  [[nodiscard]] __device__ __forceinline__ int64_t to_next() const { return size() * mask_->strides[4]; }

  const Bias* mask_;
  const char* at_;
  int left_ = 0;
  uint32_t x_ = 0, y_ = 0;
};

// One value of a mask.
__device__ __forceinline__ float read_mask(const Bias& mask, int64_t offset) {
  if (mask.dtype != DType::kBool) return read_bias(mask, offset);
  return static_cast<const uint8_t*>(mask.data)[offset] != 0 ? 0 : kHiddenLogit;
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
  if (mask.data == nullptr) return 0;
  MaskOfLane first(mask, offset, 0);
  first.ask(num_keys);
  return shift_of(first.values());
}

// Of 64 keys or queries: numbers that products add to logits, in 16 elements; see wgmma/columns.cuh.
using ColumnTile = Tile<kTileKeys, 32>;

// Of the parts of a query's number. fp16 reaches 65504, and has 11 bits down to 2^-14.
template <class T>
__device__ constexpr float factor_of_part(int part) {
  return std::is_same_v<T, bfloat16> ? 1 : part == 0 ? 0x1p15f : part == 1 ? 0x1p4f : 0x1p-7f;
}
template <class T>
__device__ constexpr uint32_t bits_of_factor(int part) {
  return std::is_same_v<T, bfloat16> ? 0x3f80 : part == 0 ? 0x7800 : part == 1 ? 0x4c00 : 0x2000;
}

// The numbers of keys 2 lane and 2 lane + 1. All elements but the first two are there from the start.
template <class T>
__device__ __forceinline__ void store_column(uint32_t to, float2 values) {
  const int key = 2 * lane_of_warp();
  ptx::store_shared(ColumnTile::unit(to, key, 0), ptx::pack<T>(values.x, factor_of_part<T>(0)));
  ptx::store_shared(ColumnTile::unit(to, key + 1, 0), ptx::pack<T>(values.y, factor_of_part<T>(0)));
}

// By all lanes of a warp. Returns what products of keys 2 lane and 2 lane + 1 start from, where keys are hidden or
// shown; zero where the mask has other values.
__device__ __forceinline__ float2 store_mask(uint32_t to, const Bias& mask, float2 values, float shift) {
  const int lane = lane_of_warp();
  MaskTile kind = MaskTile::kValues;
  float2 start{0, 0};
  if (shift != 0 || ptx::any(is_value(values.x) || is_value(values.y))) {
    const float x = values.x - shift, y = values.y - shift;
    ptx::store_shared(to + 16 * lane, float4{x, y, x, y});
  } else {
    const bool hides_x = values.x <= kHidesAt, hides_y = values.y <= kHidesAt;
    kind = ptx::any(hides_x || hides_y) ? MaskTile::kSomeHidden : MaskTile::kAllShown;
    // -inf where there are no keys.
    if (mask.dtype == DType::kBool && ptx::any(values.x == kHiddenLogit || values.y == kHiddenLogit)) {
      kind = MaskTile::kSelected;
    }
    start = {hides_x ? -INFINITY : 0, hides_y ? -INFINITY : 0};
    ptx::store_shared(to + 16 * lane, float4{start.x, start.y, start.x, start.y});
  }
  if (lane == 0) ptx::store_shared(to + kMaskKindAt, static_cast<uint32_t>(kind));
  return start;
}

// Of a row n, once its last tile is there.
struct MaskRow {
  float shift, largest;  // largest: of hidden keys, -inf if there are none
};
__device__ __forceinline__ MaskRow read_mask_row(uint32_t tile) {
  const MaskRow row{ptx::load_shared<float>(tile + kMaskShiftAt), ptx::load_shared<float>(tile + kMaskLargestAt)};
  ptx::wait_for_loads();
  return row;
}

// The masks of a row n, tile by tile, each asked for while the one before is used.
class MaskReader {
 public:
  __device__ MaskReader(const Problem& p, int64_t offset) : next_(p.mask, offset, 0) {
    next_.ask(p.Lk);
    shift_ = p.mask.data == nullptr ? 0 : shift_of(next_.values());
  }

  // The tile of these many keys at most. Returns what store_mask does.
  __device__ __forceinline__ float2 store_next(uint32_t to, const Problem& p, int num_keys) {
    const float2 values = next_.values();
    if (num_keys > kTileKeys) next_.ask(num_keys - kTileKeys);
    if (values.x <= kHidesAt) largest_ = fmaxf(largest_, values.x);
    if (values.y <= kHidesAt) largest_ = fmaxf(largest_, values.y);
    const float2 start = store_mask(to, p.mask, values, shift_);
    if (lane_of_warp() == 0) ptx::store_shared(to + kMaskShiftAt, shift_);
    if (num_keys <= kTileKeys) {
      const float largest = largest_of_warp(largest_);
      if (lane_of_warp() == 0) ptx::store_shared(to + kMaskLargestAt, largest);
    }
    return start;
  }

 private:
  MaskOfLane next_;
  float shift_, largest_ = -INFINITY;
};

}  // namespace longfold::kernels::cuda::mma
