// Products of whole warpgroups (four warps, compute capability 9.0 alone), one PTX instruction, one function; see
// ptx.cuh. They run on while the threads go on: what they read and write belongs to them from the call until
// wait_for_products says that they are done.
//
// Warp w of a group has rows 16 w to 16 w + 15 of the 64, in fragments as those of mma.m16n8k16. Second factors lie in
// shared memory, named by a descriptor (PTX ISA, "Asynchronous warpgroup level matrix shared memory layout").
#pragma once

#include <type_traits>

#include "longfold/kernels/cuda/ptx.cuh"

namespace longfold::kernels::cuda::ptx {

// Before the first product that reads or writes registers which the threads have written since the last one.
__device__ __forceinline__ void fence_products() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
// Ends a group of products ... and waits until all but the last `Pending` groups are done.
__device__ __forceinline__ void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int Pending>
__device__ __forceinline__ void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}
// What products wrote, once they are done: keeps the compiler from reading it earlier.
template <int Count>
__device__ __forceinline__ void after_products(float (&d)[Count][4]) {
#pragma unroll
  for (int i = 0; i < Count; ++i) {
    asm volatile("" : "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])::"memory");
  }
}
// Whether one thread of the warpgroup has true; `barrier`: one of 15 that the block's warpgroups share out, 1 to 15.
__device__ __forceinline__ bool any_of_warpgroup(bool value, int barrier) {
  uint32_t result;
  asm volatile(
      "{ .reg .pred mine, all; setp.ne.b32 mine, %1, 0; barrier.cta.red.or.pred all, %2, 128, mine; "
      "selp.u32 %0, 1, 0, all; }"
      : "=r"(result)
      : "r"(int{value}), "r"(barrier)
      : "memory");
  return result != 0;
}

// d += a b, or d = a b, with a 64 x 16, by rows, b 16 x N, 16-bit elements, sums in fp32; d is [N / 8][4].
//
// Operands of the instruction: the numbers of d, a's four words or descriptor, b, and the words that say whether to
// add, and whether memory is transposed.
#define LONGFOLD_NUMBERS_8 "{%0, %1, %2, %3}"
#define LONGFOLD_NUMBERS_16 "{%0, %1, %2, %3, %4, %5, %6, %7}"
#define LONGFOLD_NUMBERS_32 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}"
#define LONGFOLD_NUMBERS_64                                                                               \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, " \
  "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31}"
#define LONGFOLD_NUMBERS_96                                                                               \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, " \
  "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, "  \
  "%42, %43, %44, %45, %46, %47}"
#define LONGFOLD_NUMBERS_128                                                                              \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, " \
  "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, "  \
  "%42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, "  \
  "%62, %63}"
#define LONGFOLD_FOUR(How, i) How(d[i][0]), How(d[i][1]), How(d[i][2]), How(d[i][3])
#define LONGFOLD_OUTPUTS_8(How) LONGFOLD_FOUR(How, 0)
#define LONGFOLD_OUTPUTS_16(How) LONGFOLD_OUTPUTS_8(How), LONGFOLD_FOUR(How, 1)
#define LONGFOLD_OUTPUTS_32(How) LONGFOLD_OUTPUTS_16(How), LONGFOLD_FOUR(How, 2), LONGFOLD_FOUR(How, 3)
#define LONGFOLD_OUTPUTS_64(How) \
  LONGFOLD_OUTPUTS_32(How), LONGFOLD_FOUR(How, 4), LONGFOLD_FOUR(How, 5), LONGFOLD_FOUR(How, 6), LONGFOLD_FOUR(How, 7)
#define LONGFOLD_OUTPUTS_96(How) \
  LONGFOLD_OUTPUTS_64(How), LONGFOLD_FOUR(How, 8), LONGFOLD_FOUR(How, 9), LONGFOLD_FOUR(How, 10), LONGFOLD_FOUR(How, 11)
#define LONGFOLD_OUTPUTS_128(How)                                                                   \
  LONGFOLD_OUTPUTS_96(How), LONGFOLD_FOUR(How, 12), LONGFOLD_FOUR(How, 13), LONGFOLD_FOUR(How, 14), \
      LONGFOLD_FOUR(How, 15)
#define LONGFOLD_PRODUCT(Type, N, How, Operands, ...)                                                           \
  asm volatile(                                                                                                 \
      "{ .reg .pred no, yes; setp.ne.b32 no, 0, 0; setp.eq.b32 yes, 0, 0; wgmma.mma_async.sync.aligned.m64n" #N \
      "k16.f32." Type "." Type " " LONGFOLD_NUMBERS_##N ", " Operands "; }"                                     \
      : LONGFOLD_OUTPUTS_##N(How)                                                                               \
      : __VA_ARGS__)
#define LONGFOLD_PRODUCT_OF_TYPE(N, How, Operands, ...)      \
  if constexpr (std::is_same_v<T, bfloat16>)                 \
    LONGFOLD_PRODUCT("bf16", N, How, Operands, __VA_ARGS__); \
  else                                                       \
    LONGFOLD_PRODUCT("f16", N, How, Operands, __VA_ARGS__)
#define LONGFOLD_WORDS "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)
#define LONGFOLD_DESCRIPTORS "l"(a), "l"(b)

// Rows of b's memory are its rows.
template <class T, int N>
__device__ __forceinline__ void add_transposed_async(float (*d)[4], const uint32_t (&a)[4], uint64_t b) {
  static_assert(N == 16 || N == 32 || N == 64 || N == 96 || N == 128);
  if constexpr (N == 16) {
    LONGFOLD_PRODUCT_OF_TYPE(16, "+f", "{%8, %9, %10, %11}, %12, yes, 1, 1, 1", LONGFOLD_WORDS);
  } else if constexpr (N == 32) {
    LONGFOLD_PRODUCT_OF_TYPE(32, "+f", "{%16, %17, %18, %19}, %20, yes, 1, 1, 1", LONGFOLD_WORDS);
  } else if constexpr (N == 64) {
    LONGFOLD_PRODUCT_OF_TYPE(64, "+f", "{%32, %33, %34, %35}, %36, yes, 1, 1, 1", LONGFOLD_WORDS);
  } else if constexpr (N == 96) {
    LONGFOLD_PRODUCT_OF_TYPE(96, "+f", "{%48, %49, %50, %51}, %52, yes, 1, 1, 1", LONGFOLD_WORDS);
  } else {
    LONGFOLD_PRODUCT_OF_TYPE(128, "+f", "{%64, %65, %66, %67}, %68, yes, 1, 1, 1", LONGFOLD_WORDS);
  }
}

// Rows of b's memory are its columns. In place of d ... and added to it.
template <class T>
__device__ __forceinline__ void multiply_async(float (&d)[8][4], const uint32_t (&a)[4], uint64_t b) {
  LONGFOLD_PRODUCT_OF_TYPE(64, "=f", "{%32, %33, %34, %35}, %36, no, 1, 1, 0", LONGFOLD_WORDS);
}
template <class T>
__device__ __forceinline__ void add_async(float (&d)[8][4], const uint32_t (&a)[4], uint64_t b) {
  LONGFOLD_PRODUCT_OF_TYPE(64, "+f", "{%32, %33, %34, %35}, %36, yes, 1, 1, 0", LONGFOLD_WORDS);
}
template <class T>
__device__ __forceinline__ void add_async(float (&d)[1][4], const uint32_t (&a)[4], uint64_t b) {
  LONGFOLD_PRODUCT_OF_TYPE(8, "+f", "{%4, %5, %6, %7}, %8, yes, 1, 1, 0", LONGFOLD_WORDS);
}
// The same with a in shared memory, whose rows are its rows.
template <class T>
__device__ __forceinline__ void multiply_async(float (&d)[8][4], uint64_t a, uint64_t b) {
  LONGFOLD_PRODUCT_OF_TYPE(64, "=f", "%32, %33, no, 1, 1, 0, 0", LONGFOLD_DESCRIPTORS);
}
template <class T>
__device__ __forceinline__ void add_async(float (&d)[8][4], uint64_t a, uint64_t b) {
  LONGFOLD_PRODUCT_OF_TYPE(64, "+f", "%32, %33, yes, 1, 1, 0, 0", LONGFOLD_DESCRIPTORS);
}
#undef LONGFOLD_NUMBERS_8
#undef LONGFOLD_NUMBERS_16
#undef LONGFOLD_NUMBERS_32
#undef LONGFOLD_NUMBERS_64
#undef LONGFOLD_NUMBERS_96
#undef LONGFOLD_NUMBERS_128
#undef LONGFOLD_FOUR
#undef LONGFOLD_OUTPUTS_8
#undef LONGFOLD_OUTPUTS_16
#undef LONGFOLD_OUTPUTS_32
#undef LONGFOLD_OUTPUTS_64
#undef LONGFOLD_OUTPUTS_96
#undef LONGFOLD_OUTPUTS_128
#undef LONGFOLD_PRODUCT
#undef LONGFOLD_PRODUCT_OF_TYPE
#undef LONGFOLD_WORDS
#undef LONGFOLD_DESCRIPTORS

}  // namespace longfold::kernels::cuda::ptx
