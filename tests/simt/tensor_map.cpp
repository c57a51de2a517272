#include "tests/simt/tensor_map.h"

#include <algorithm>
#include <cstring>

#include "tests/simt/error.h"

namespace longfold::simt {
namespace {

constexpr uint32_t kUnit = 16;

// Units of 16 bytes trade places within their 32, 64 or 128 bytes, by bits 7 and up of the address.
uint32_t swizzled(uint32_t address, uint32_t swizzle_bytes) {
  return swizzle_bytes == 0 ? address : address ^ ((address >> 7 & (swizzle_bytes / kUnit - 1)) * kUnit);
}

}  // namespace

uint32_t TensorMap::box_bytes() const {
  uint32_t bytes = element_bytes;
  for (const uint32_t size : box) bytes *= size;
  return bytes;
}

void TensorMap::for_units(uint32_t to, const int (&first)[5],
                          const std::function<void(uint32_t, const std::byte*, uint32_t)>& f) const {
  if (first[0] < 0) throw Error("copy_box of a box that starts before column 0 is not emulated");
  const uint32_t units_of_row = box[0] * element_bytes / kUnit, num_units = box_bytes() / kUnit;
  for (uint32_t unit = 0; unit < num_units; ++unit) {
    const std::byte* from = data;
    bool inside = true;
    uint32_t rest = unit / units_of_row;
    for (size_t dim = 1; dim < 5; ++dim) {
      const int64_t place = first[dim] + static_cast<int64_t>(rest % box[dim]);
      rest /= box[dim];
      inside &= place >= 0 && place < sizes[dim];
      from += place * static_cast<int64_t>(strides[dim - 1]);
    }
    const int64_t column = int64_t{first[0]} * element_bytes + unit % units_of_row * kUnit;
    const int64_t left = int64_t{sizes[0]} * element_bytes - column;
    const auto num_bytes = static_cast<uint32_t>(inside ? std::clamp<int64_t>(left, 0, kUnit) : 0);
    f(swizzled(to + unit * kUnit, swizzle_bytes), num_bytes == 0 ? nullptr : from + column, num_bytes);
  }
}

bool encode_tensor_map(void* to, const void* data, int element_bytes, const std::array<uint64_t, 5>& sizes,
                       const std::array<uint64_t, 4>& strides, const std::array<uint32_t, 5>& box, int swizzle_bytes) {
  constexpr uint64_t kMostSize = uint64_t{1} << 32, kMostStride = uint64_t{1} << 40;
  constexpr uint32_t kMostBox = 256;
  bool is_valid = reinterpret_cast<uintptr_t>(data) % kUnit == 0;
  for (const uint64_t size : sizes) is_valid &= size >= 1 && size < kMostSize;
  for (const uint64_t stride : strides) is_valid &= stride % kUnit == 0 && stride < kMostStride;
  for (const uint32_t size : box) is_valid &= size >= 1 && size <= kMostBox;
  const uint32_t row = box[0] * static_cast<uint32_t>(element_bytes), swizzle = static_cast<uint32_t>(swizzle_bytes);
  is_valid &= row % kUnit == 0 && (swizzle == 0 || row <= swizzle);
  if (!is_valid) return false;
  if (swizzle != 0 && row != swizzle) throw Error("a swizzled box with rows shorter than the swizzle is not emulated");
  TensorMap map{.magic = TensorMap::kMagic,
                .data = static_cast<const std::byte*>(data),
                .strides = strides,
                .sizes = {},
                .box = {},
                .element_bytes = static_cast<uint16_t>(element_bytes),
                .swizzle_bytes = static_cast<uint16_t>(swizzle_bytes)};
  std::ranges::copy(sizes, map.sizes.begin());
  std::ranges::copy(box, map.box.begin());
  std::memcpy(to, &map, sizeof map);
  return true;
}

}  // namespace longfold::simt
