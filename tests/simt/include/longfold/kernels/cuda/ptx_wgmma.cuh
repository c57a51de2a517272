// The functions of longfold/kernels/cuda/ptx_wgmma.cuh for the host; see ptx.cuh in this folder.
#pragma once

#include <type_traits>

#include "longfold/kernels/cuda/ptx.cuh"
#include "tests/simt/products.h"

namespace longfold::kernels::cuda::ptx {

inline void fence_products() {
  simt::Block::current().fence_products();
}
inline void commit_products() {
  simt::Block::current().commit_products();
}
template <int Pending>
void wait_for_products(Here here = Here::current()) {
  static_assert(Pending >= 0 && Pending <= 7, "wgmma.wait_group takes 0 to 7 here");
  simt::Block::current().wait_for_products(Pending, here);
}
template <int Count>
void after_products(float (&d)[Count][4], Here here = Here::current()) {
  simt::Block::current().after_products(d, sizeof d, here);
}
inline bool any_of_warpgroup(bool value, int barrier, Here here = Here::current()) {
  return simt::Block::current().any_of_warpgroup(value, barrier, here);
}

template <class T>
void start_product(float (*d)[4], const uint32_t* a, uint64_t descriptor_a, uint64_t b, int columns, bool adds,
                   bool is_transposed, const Here& here) {
  static_assert(std::is_same_v<T, bfloat16> || std::is_same_v<T, float16>);
  simt::Block::current().start_product({.d = d,
                                        .a = a,
                                        .descriptor_a = descriptor_a,
                                        .descriptor_b = b,
                                        .columns = columns,
                                        .adds = adds,
                                        .is_transposed = is_transposed,
                                        .is_bfloat16 = std::is_same_v<T, bfloat16>,
                                        .here = here,
                                        .waited_at = {}});
}

template <class T, int N>
void add_transposed_async(float (*d)[4], const uint32_t (&a)[4], uint64_t b, Here here = Here::current()) {
  static_assert(N == 16 || N == 32 || N == 64 || N == 96 || N == 128);
  start_product<T>(d, a, 0, b, N, true, true, here);
}
template <class T>
void multiply_async(float (&d)[8][4], const uint32_t (&a)[4], uint64_t b, Here here = Here::current()) {
  start_product<T>(d, a, 0, b, 64, false, false, here);
}
template <class T>
void add_async(float (&d)[8][4], const uint32_t (&a)[4], uint64_t b, Here here = Here::current()) {
  start_product<T>(d, a, 0, b, 64, true, false, here);
}
template <class T>
void add_async(float (&d)[1][4], const uint32_t (&a)[4], uint64_t b, Here here = Here::current()) {
  start_product<T>(d, a, 0, b, 8, true, false, here);
}
template <class T>
void multiply_async(float (&d)[8][4], uint64_t a, uint64_t b, Here here = Here::current()) {
  start_product<T>(d, nullptr, a, b, 64, false, false, here);
}
template <class T>
void add_async(float (&d)[8][4], uint64_t a, uint64_t b, Here here = Here::current()) {
  start_product<T>(d, nullptr, a, b, 64, true, false, here);
}

}  // namespace longfold::kernels::cuda::ptx
