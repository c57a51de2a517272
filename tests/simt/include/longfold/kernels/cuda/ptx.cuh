// The functions of longfold/kernels/cuda/ptx.cuh for the host, where this file's folder comes first on the include
// path. Each has one more argument, filled in by the compiler: the place in the kernel's source, for errors.
#pragma once

#include <cfloat>
#include <type_traits>

#include "longfold/kernels/dtype.h"
#include "tests/simt/cuda_language.h"
#include "tests/simt/matrices.h"

namespace longfold::kernels::cuda::ptx {

using simt::Here;

// Of the array that `extern __shared__` declares: there is no other.
inline uint32_t shared_address(const void*) {
  return simt::SharedMemory::kBase;
}

template <class T>
T load_shared(uint32_t from, Here here = Here::current()) {
  static_assert(
      std::is_same_v<T, uint32_t> || std::is_same_v<T, float> || std::is_same_v<T, float2> || std::is_same_v<T, float4>,
      "ptx.cuh has no such load_shared");
  T value;
  simt::Block::current().load(from, &value, sizeof value, here);
  return value;
}

inline void store_shared(uint32_t to, uint16_t value, Here here = Here::current()) {
  simt::Block::current().store(to, &value, sizeof value, here);
}
inline void store_shared(uint32_t to, uint32_t value, Here here = Here::current()) {
  simt::Block::current().store(to, &value, sizeof value, here);
}
inline void store_shared(uint32_t to, float value, Here here = Here::current()) {
  simt::Block::current().store(to, &value, sizeof value, here);
}
inline void store_shared(uint32_t to, uint4 value, Here here = Here::current()) {
  simt::Block::current().store(to, &value, sizeof value, here);
}
inline void store_shared(uint32_t to, float4 value, Here here = Here::current()) {
  simt::Block::current().store(to, &value, sizeof value, here);
}

inline void copy_async(uint32_t to, const void* from, bool valid, Here here = Here::current()) {
  simt::Block::current().copy_async(to, from, valid, here);
}
inline void barrier_init(uint32_t barrier, uint32_t count, Here here = Here::current()) {
  simt::Block::current().barrier_init(barrier, count, here);
}
inline void barrier_arrive(uint32_t barrier, Here here = Here::current()) {
  simt::Block::current().barrier_arrive(barrier, here);
}
inline void copies_arrive(uint32_t barrier, Here here = Here::current()) {
  simt::Block::current().copies_arrive(barrier, here);
}
inline void barrier_wait(uint32_t barrier, uint32_t parity, Here here = Here::current()) {
  simt::Block::current().barrier_wait(barrier, parity, here);
}

inline void fence_barrier_init() {
  simt::Block::current().fence_barrier_init();
}
inline void expect_bytes(uint32_t barrier, uint32_t bytes, Here here = Here::current()) {
  simt::Block::current().expect_bytes(barrier, bytes, here);
}
// By a map of simt::encode_tensor_map.
inline void copy_box(uint32_t to, const void* map, uint32_t barrier, const int (&first)[5],
                     Here here = Here::current()) {
  simt::Block::current().copy_box(to, map, barrier, first, here);
}
inline void prefetch_map(const void*) {}

inline void copy_bytes(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier, Here here = Here::current()) {
  simt::Block::current().copy_bytes(to, from, bytes, barrier, here);
}
// Loads are done at once here.
inline void wait_for_loads() {}
inline void fence_stores_to_products() {
  simt::Block::current().fence_stores_to_products();
}

// Of whole warps. The host's compiler has its own registers.
template <int Count>
void give_registers(Here here = Here::current()) {
  static_assert(Count >= 24 && Count <= 256 && Count % 8 == 0, "setmaxnreg takes no such number");
  simt::Block::current().together("give_registers", [](const void* const*, void* const*) {}, nullptr, nullptr, here);
}
template <int Count>
void take_registers(Here here = Here::current()) {
  static_assert(Count >= 24 && Count <= 256 && Count % 8 == 0, "setmaxnreg takes no such number");
  simt::Block::current().together("take_registers", [](const void* const*, void* const*) {}, nullptr, nullptr, here);
}

inline int lane() {
  return static_cast<int>(simt::Block::current().thread_index() % simt::kLanes);
}

inline void load_matrices(uint32_t (&to)[4], uint32_t from, Here here = Here::current()) {
  alignas(16) uint32_t row[4];
  simt::Block::current().load_row(from, row, here);
  simt::Block::current().together("load_matrices", simt::spread_matrices, row, to, here);
}
inline void load_matrices_transposed(uint32_t (&to)[4], uint32_t from, Here here = Here::current()) {
  alignas(16) uint32_t row[4];
  simt::Block::current().load_row(from, row, here);
  simt::Block::current().together("load_matrices_transposed", simt::spread_matrices_transposed, row, to, here);
}

template <class T, int Depth>
void multiply(const char* name, const simt::MultiplyIn& in, float (&d)[4], const Here& here) {
  using simt::Sums;
  simt::Block& block = simt::Block::current();
  const auto work = block.cuts_sums() ? simt::multiply_matrices<T, Depth, Sums::kCut>
                                      : simt::multiply_matrices<T, Depth, Sums::kExact>;
  block.together(name, work, &in, d, here);
}

template <class T>
void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, const float (&c)[4],
              Here here = Here::current()) {
  const uint32_t b[2] = {b0, b1};
  const simt::MultiplyIn in{a, b, c};
  multiply<T, 16>("multiply", in, d, here);
}
template <class T>
void multiply_half(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t b, const float (&c)[4],
                   Here here = Here::current()) {
  const uint32_t a[2] = {a0, a1};
  const simt::MultiplyIn in{a, &b, c};
  multiply<T, 8>("multiply_half", in, d, here);
}

inline float exp2(float x) {
  const float y = std::exp2(x);
  return y < FLT_MIN ? 0.0f : y;
}

template <class T>
uint16_t round_to(float value) {
  if (std::isnan(value)) return 0x7fff;
  if constexpr (std::is_same_v<T, bfloat16>) {
    return to_bfloat16(value).bits;
  } else {
    static_assert(std::is_same_v<T, float16>);
    return to_float16(value).bits;
  }
}
template <class T>
uint32_t pack(float low, float high) {
  return static_cast<uint32_t>(round_to<T>(high)) << 16 | round_to<T>(low);
}
template <class T>
float2 unpack(uint32_t word) {
  return {to_float(T{static_cast<uint16_t>(word)}), to_float(T{static_cast<uint16_t>(word >> 16)})};
}

// True in one lane, which one is the device's to choose.
inline bool elect(Here here = Here::current()) {
  simt::Block::current().sync_warp(here);
  return lane() == simt::kLanes / 2;
}
inline float of_lane(float value, int lane, Here here = Here::current()) {
  struct In {
    float value;
    int lane;
  } in{value, lane};
  float result;
  simt::Block::current().together(
      "of_lane",
      [](const void* const* from, void* const* to) {
        for (int i = 0; i < simt::kLanes; ++i) {
          const int at = static_cast<const In*>(from[i])->lane;
          *static_cast<float*>(to[i]) = static_cast<const In*>(from[at])->value;
        }
      },
      &in, &result, here);
  return result;
}
inline int of_warp(int value, Here here = Here::current()) {
  int result;
  simt::Block::current().together(
      "of_warp",
      [](const void* const* from, void* const* to) {
        for (int lane = 0; lane < simt::kLanes; ++lane) {
          *static_cast<int*>(to[lane]) = *static_cast<const int*>(from[0]);
        }
      },
      &value, &result, here);
  return result;
}
template <class T>  // float or uint32_t
T shuffle_xor(T value, int lanes, Here here = Here::current()) {
  struct In {
    T value;
    int lanes;
  };
  const In in{value, lanes};
  T result;
  simt::Block::current().together(
      "shuffle_xor",
      [](const void* const* from, void* const* to) {
        for (int lane = 0; lane < simt::kLanes; ++lane) {
          const int other = lane ^ static_cast<const In*>(from[lane])->lanes;
          // CUDA: the lane's own value where there is no such lane.
          const int source = other >= 0 && other < simt::kLanes ? other : lane;
          *static_cast<T*>(to[lane]) = static_cast<const In*>(from[source])->value;
        }
      },
      &in, &result, here);
  return result;
}
// Bit i is lane i's.
inline uint32_t vote(const char* name, bool value, Here here) {
  uint32_t result;
  simt::Block::current().together(
      name,
      [](const void* const* from, void* const* to) {
        uint32_t bits = 0;
        for (int lane = 0; lane < simt::kLanes; ++lane) {
          bits |= static_cast<uint32_t>(*static_cast<const bool*>(from[lane])) << lane;
        }
        for (int lane = 0; lane < simt::kLanes; ++lane) *static_cast<uint32_t*>(to[lane]) = bits;
      },
      &value, &result, here);
  return result;
}
inline uint32_t ballot(bool value, Here here = Here::current()) {
  return vote("ballot", value, here);
}
inline bool any(bool value, Here here = Here::current()) {
  return vote("any", value, here) != 0;
}
inline void sync_warp(Here here = Here::current()) {
  simt::Block::current().sync_warp(here);
}
inline void sync_block(Here here = Here::current()) {
  simt::Block::current().sync_block(here);
}
inline void sync_warpgroup(int barrier, Here here = Here::current()) {
  simt::Block::current().any_of_warpgroup(false, barrier, here);
}

}  // namespace longfold::kernels::cuda::ptx
