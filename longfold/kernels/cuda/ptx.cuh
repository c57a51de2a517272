// One PTX instruction, one function: all that the kernels on tensor cores use beyond plain C++. tests/simt/ has a file
// of this name for the host, so that the kernels' own source runs without a GPU.
//
// Fragments are those of mma.m16n8k16 and mma.m16n8k8 (PTX ISA, "Matrix fragments"): with g = lane / 4 and t = lane % 4
// an accumulator holds rows g (elements 0, 1) and g + 8 (2, 3), columns 2t and 2t + 1. Addresses are bytes in shared
// memory.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "longfold/kernels/dtype.h"

namespace longfold::kernels::cuda::ptx {

// Once it is known it stays in a register.
__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
  asm volatile("" : "+r"(address));
  return address;
}

// Aligned to their own size.
template <class T>
__device__ T load_shared(uint32_t from) = delete;
template <>
__device__ __forceinline__ uint32_t load_shared<uint32_t>(uint32_t from) {
  uint32_t value;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(value) : "r"(from) : "memory");
  return value;
}
template <>
__device__ __forceinline__ float load_shared<float>(uint32_t from) {
  float value;
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(value) : "r"(from) : "memory");
  return value;
}
template <>
__device__ __forceinline__ float2 load_shared<float2>(uint32_t from) {
  float2 value;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(value.x), "=f"(value.y) : "r"(from) : "memory");
  return value;
}
template <>
__device__ __forceinline__ float4 load_shared<float4>(uint32_t from) {
  float4 value;
  asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
               : "r"(from)
               : "memory");
  return value;
}

__device__ __forceinline__ void store_shared(uint32_t to, uint16_t value) {
  asm volatile("st.shared.u16 [%0], %1;" ::"r"(to), "h"(value) : "memory");
}
__device__ __forceinline__ void store_shared(uint32_t to, uint32_t value) {
  asm volatile("st.shared.u32 [%0], %1;" ::"r"(to), "r"(value) : "memory");
}
__device__ __forceinline__ void store_shared(uint32_t to, float value) {
  asm volatile("st.shared.f32 [%0], %1;" ::"r"(to), "f"(value) : "memory");
}
__device__ __forceinline__ void store_shared(uint32_t to, uint4 value) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(value.x), "r"(value.y), "r"(value.z),
               "r"(value.w)
               : "memory");
}
__device__ __forceinline__ void store_shared(uint32_t to, float4 value) {
  asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(to), "f"(value.x), "f"(value.y), "f"(value.z),
               "f"(value.w)
               : "memory");
}

// 16 bytes from global to shared memory, both aligned to 16; zeros instead where `valid` is false, and nothing is read.
// Seen by those who wait for a barrier that copies_arrive was called on after it.
__device__ __forceinline__ void copy_async(uint32_t to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid ? 16 : 0) : "memory");
}

// mbarriers: 8 bytes of shared memory. A phase ends when `count` arrivals have come; phases have parities 0, 1, 0, ...
__device__ __forceinline__ void barrier_init(uint32_t barrier, uint32_t count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}
__device__ __forceinline__ void barrier_arrive(uint32_t barrier) {
  asm volatile("{ .reg .b64 state; mbarrier.arrive.shared::cta.b64 state, [%0]; }" ::"r"(barrier) : "memory");
}
// So that copies of tensors see barriers that were just made.
__device__ __forceinline__ void fence_barrier_init() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}
// Arrives once all copies that this thread has started are done; one of the `count` arrivals.
__device__ __forceinline__ void copies_arrive(uint32_t barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}
// Until all that this thread has loaded is in its registers, before it arrives at a barrier with nothing of that used
// yet: arrivals overtake loads that wait in a queue, and the copy that follows an arrival then comes before the load.
// (Seen: one row of keys in 4,000 blocks was of the next tile.)
__device__ __forceinline__ void wait_for_loads() {
  asm volatile("fence.acq_rel.cta;" ::: "memory");
}
// Between this thread's stores and products of warpgroups that read them.
__device__ __forceinline__ void fence_stores_to_products() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}
// Until the phase of this parity has ended.
__device__ __forceinline__ void barrier_wait(uint32_t barrier, uint32_t parity) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "{ .reg .pred done;\n"
      "wait: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra wait; }" ::"r"(barrier),
      "r"(parity)
      : "memory");
#else
  asm volatile(
      "{ .reg .pred done;\n"
      "wait: mbarrier.test_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra wait; }" ::"r"(barrier),
      "r"(parity)
      : "memory");
#endif
}

#if __CUDA_ARCH__ >= 900
// Copies of boxes of tensors by a tensor map (a CUtensorMap in a kernel's parameters): what is outside of the tensor
// becomes zero. The barrier's phase does not end before `bytes` more have come.
__device__ __forceinline__ void expect_bytes(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
// True in one lane of the warp.
__device__ __forceinline__ bool elect() {
  uint32_t chosen;
  asm volatile("{ .reg .pred p; elect.sync _|p, 0xffffffff; selp.u32 %0, 1, 0, p; }" : "=r"(chosen));
  return chosen != 0;
}
__device__ __forceinline__ void copy_box(uint32_t to, const void* map, uint32_t barrier, const int (&first)[5]) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6, %7}], "
      "[%2];" ::"r"(to),
      "l"(map), "r"(barrier), "r"(first[0]), "r"(first[1]), "r"(first[2]), "r"(first[3]), "r"(first[4])
      : "memory");
}
// So that the first copy by the map need not wait for it.
__device__ __forceinline__ void prefetch_map(const void* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}
// Bytes that lie side by side, both addresses and their number multiples of 16; else as copy_box.
__device__ __forceinline__ void copy_bytes(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
               "l"(from), "r"(bytes), "r"(barrier)
               : "memory");
}
#else
__device__ __forceinline__ bool elect() {
  return false;
}
__device__ __forceinline__ void copy_bytes(uint32_t, const void*, uint32_t, uint32_t) {
  __trap();
}
__device__ __forceinline__ void prefetch_map(const void*) {}
__device__ __forceinline__ void expect_bytes(uint32_t, uint32_t) {
  __trap();  // there are no tensor maps for these devices
}
__device__ __forceinline__ void copy_box(uint32_t, const void*, uint32_t, const int (&)[5]) {
  __trap();
}
#endif

// Registers of each thread of this warp from here on, by whole groups of four warps: fewer than before, more than
// before. Where a GPU does not know this, nothing.
template <int Count>
__device__ __forceinline__ void give_registers() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Count));
#endif
}
template <int Count>
__device__ __forceinline__ void take_registers() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Count));
#endif
}

// Four 8 x 8 matrices of 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8. Lane i gets of each
// matrix elements 2 (i % 4) and one more of row i / 4, the first in the low half; transposed: of column i / 4.
__device__ __forceinline__ void load_matrices(uint32_t (&to)[4], uint32_t from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(from)
               : "memory");
}
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&to)[4], uint32_t from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(from)
               : "memory");
}

// d = a b + c: a 16 x 16 by rows, b 16 x 8 by columns, 16-bit elements, sums in fp32.
template <class T>
__device__ void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, const float (&c)[4]) = delete;
template <>
__device__ __forceinline__ void multiply<bfloat16>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                                                   const float (&c)[4]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%10, %11, %12, %13};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
}
template <>
__device__ __forceinline__ void multiply<float16>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                                                  const float (&c)[4]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%10, %11, %12, %13};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
}

// The same with a 16 x 8 and b 8 x 8: half the depth.
template <class T>
__device__ void multiply_half(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t b, const float (&c)[4]) = delete;
template <>
__device__ __forceinline__ void multiply_half<bfloat16>(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t b,
                                                        const float (&c)[4]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%7, %8, %9, %10};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a0), "r"(a1), "r"(b), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
}
template <>
__device__ __forceinline__ void multiply_half<float16>(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t b,
                                                       const float (&c)[4]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%7, %8, %9, %10};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a0), "r"(a1), "r"(b), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
}

// 2^x, relative error 2^-22; 0 for -inf, and for results below the smallest normal number.
__device__ __forceinline__ float exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Two fp32 numbers rounded to a word of two 16-bit ones, `low` in the lower half.
template <class T>
__device__ uint32_t pack(float low, float high) = delete;
template <>
__device__ __forceinline__ uint32_t pack<bfloat16>(float low, float high) {
  uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}
template <>
__device__ __forceinline__ uint32_t pack<float16>(float low, float high) {
  uint32_t word;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}

// The two numbers of such a word.
template <class T>
__device__ float2 unpack(uint32_t word) = delete;
template <>
__device__ __forceinline__ float2 unpack<bfloat16>(uint32_t word) {
  return {__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u)};
}
template <>
__device__ __forceinline__ float2 unpack<float16>(uint32_t word) {
  return __half22float2(*reinterpret_cast<const __half2*>(&word));
}

// One number, to and from its bits.
template <class T>
__device__ __forceinline__ uint16_t round_to(float value) {
#if __CUDA_ARCH__ >= 800
  return static_cast<uint16_t>(pack<T>(value, 0.0f) & 0xffffu);
#else
  if constexpr (std::is_same_v<T, float16>) return __half_as_ushort(__float2half_rn(value));
  if (value != value) return 0x7fff;
  const uint32_t bits = __float_as_uint(value);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);  // ties to even
#endif
}

// Of this thread in its warp. Once it is known it stays in a register, since it is asked for only once.
__device__ __forceinline__ int lane() {
  int lane;
  asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));
  return lane;
}
// The value of the first lane, so that the compiler knows that all have the same.
__device__ __forceinline__ int of_warp(int value) {
  return __shfl_sync(0xffffffffu, value, 0);
}
__device__ __forceinline__ float of_lane(float value, int lane) {
  return __shfl_sync(0xffffffffu, value, lane);
}
__device__ __forceinline__ float shuffle_xor(float value, int lanes) {
  return __shfl_xor_sync(0xffffffffu, value, lanes);
}
__device__ __forceinline__ uint32_t shuffle_xor(uint32_t value, int lanes) {
  return __shfl_xor_sync(0xffffffffu, value, lanes);
}
__device__ __forceinline__ bool any(bool value) {
  return __any_sync(0xffffffffu, value) != 0;
}
// Bit i is lane i's.
__device__ __forceinline__ uint32_t ballot(bool value) {
  return __ballot_sync(0xffffffffu, value);
}
__device__ __forceinline__ void sync_warp() {
  __syncwarp();
}
__device__ __forceinline__ void sync_block() {
  __syncthreads();
}
// Of four warps; `barrier`: one of 15 that they share with no others of the block at that time, 1 to 15.
__device__ __forceinline__ void sync_warpgroup(int barrier) {
  asm volatile("barrier.cta.sync %0, 128;" ::"r"(barrier) : "memory");
}

}  // namespace longfold::kernels::cuda::ptx
