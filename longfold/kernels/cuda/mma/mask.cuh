// Masks: what is added to the logits of a key, for all queries of a row n.
//
// Most masks show a key (0) or hide it (-5e8 or less: its weight is zero beside any key that is shown). A tile of such
// keys costs the consumers nothing: their products start from 0 or from kHiddenLogit. Of other masks a shift, the
// largest value of the row's first tile, is taken off, so that a constant costs the logits no digits.
#pragma once

#include <type_traits>

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

// The values of a row's mask, for keys 2 lane and 2 lane + 1 of a tile. They are asked for, and read later.
class MaskOfLane {
 public:
  // `offset`: of the row, in elements. The first tile is that from first_key on.
  __device__ __forceinline__ MaskOfLane(const Bias& mask, int64_t offset, int first_key) : dtype_(mask.dtype) {
    const int64_t size = dtype_ == DType::kFloat64 ? 8 : dtype_ == DType::kFloat32 ? 4 : 2;
    to_next_ = size * mask.strides[4];
    at_ = static_cast<const char*>(mask.data);
    if (at_ != nullptr) at_ += size * offset + (first_key + 2 * lane_of_warp()) * to_next_;
  }

  // Asks for the values of the tile, which is one of num_keys keys from its first one on, and goes on to the next one.
  __device__ __forceinline__ void ask(int num_keys) {
    left_ = num_keys - 2 * lane_of_warp();
    x_ = y_ = 0;
    if (at_ == nullptr) return;
    if (dtype_ == DType::kBFloat16 || dtype_ == DType::kFloat16) {
      if (left_ > 0) x_ = *reinterpret_cast<const uint16_t*>(at_);
      if (left_ > 1) y_ = *reinterpret_cast<const uint16_t*>(at_ + to_next_);
    } else if (dtype_ == DType::kFloat32) {
      if (left_ > 0) x_ = *reinterpret_cast<const uint32_t*>(at_);
      if (left_ > 1) y_ = *reinterpret_cast<const uint32_t*>(at_ + to_next_);
    } else {
      if (left_ > 0) x_ = __float_as_uint(static_cast<float>(*reinterpret_cast<const double*>(at_)));
      if (left_ > 1) y_ = __float_as_uint(static_cast<float>(*reinterpret_cast<const double*>(at_ + to_next_)));
    }
    at_ += kTileKeys * to_next_;
  }

  // What was asked for; hidden where there are no keys.
  [[nodiscard]] __device__ __forceinline__ float2 values() const {
    return {left_ > 0 ? number(x_) : -INFINITY, left_ > 1 ? number(y_) : -INFINITY};
  }

 private:
  [[nodiscard]] __device__ __forceinline__ float number(uint32_t bits) const {
    if (dtype_ == DType::kBFloat16) return ptx::unpack<bfloat16>(bits).x;
    if (dtype_ == DType::kFloat16) return ptx::unpack<float16>(bits).x;
    return __uint_as_float(bits);
  }

  const char* at_;
  int64_t to_next_;
  DType dtype_;
  int left_ = 0;
  uint32_t x_ = 0, y_ = 0;
};

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
__device__ __forceinline__ float2 store_mask(uint32_t to, float2 values, float shift, float scale) {
  const int lane = lane_of_warp();
  const bool hides_x = values.x <= kHidesAt, hides_y = values.y <= kHidesAt;
  MaskTile kind = MaskTile::kValues;
  float2 start{0, 0};
  if (shift != 0 || ptx::any(is_value(values.x) || is_value(values.y))) {
    const float x = values.x - shift, y = values.y - shift;
    ptx::store_shared(to + 16 * lane, float4{x, y, x, y});
  } else {
    kind = ptx::any(hides_x || hides_y) ? MaskTile::kSomeHidden : MaskTile::kAllShown;
    const float hidden = kHiddenLogit / scale, x = hides_x ? hidden : 0, y = hides_y ? hidden : 0;
    ptx::store_shared(to + 16 * lane, float4{x, y, x, y});
    start = {x, y};
  }
  if (lane == 0) ptx::store_shared(to + kMaskKindAt, static_cast<uint32_t>(kind));
  return start;
}

// Of a row n, once its last tile is there.
struct MaskRow {
  float shift, largest;
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
    largest_ = fmaxf(largest_, fmaxf(values.x, values.y));
    const float2 start = store_mask(to, values, shift_, p.scale);
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
