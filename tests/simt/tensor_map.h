// Tensor maps as the emulator reads them: what cuTensorMapEncodeTiled is given, in as many bytes as it writes.
#pragma once

#include <array>
#include <cstdint>
#include <functional>

namespace longfold::simt {

struct TensorMap {
  static constexpr uint64_t kMagic = 0x70616d726f736e74;  // so that other bytes are noticed

  uint64_t magic;
  const std::byte* data;
  std::array<uint64_t, 4> strides;  // in bytes, of dimensions 1 to 4
  std::array<uint32_t, 5> sizes;    // in elements; neighbours of dimension 0 lie side by side
  std::array<uint16_t, 5> box;
  uint16_t element_bytes, swizzle_bytes;  // 0: not swizzled

  [[nodiscard]] uint32_t box_bytes() const;
  // f(address of 16 bytes in shared memory, their source, how many bytes of it: the rest is zero) for the box from
  // `first` on. `to` is where the box starts.
  void for_units(uint32_t to, const int (&first)[5],
                 const std::function<void(uint32_t to, const std::byte* from, uint32_t num_bytes)>& f) const;
};
static_assert(sizeof(TensorMap) <= 128);

// False where the driver would refuse (CUDA driver API, cuTensorMapEncodeTiled); `to` has 128 bytes.
[[nodiscard]] bool encode_tensor_map(void* to, const void* data, int element_bytes,
                                     const std::array<uint64_t, 5>& sizes, const std::array<uint64_t, 4>& strides,
                                     const std::array<uint32_t, 5>& box, int swizzle_bytes);

}  // namespace longfold::simt
