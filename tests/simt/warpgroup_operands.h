// Matrices for tests of products of warpgroups, in registers and in shared memory as the PTX ISA says.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>

#include "longfold/kernels/cuda/ptx_wgmma.cuh"
#include "tests/simt/every_mode.h"
#include "tests/simt/simt.h"

namespace longfold::simt {

using kernels::bfloat16;
using kernels::float16;
namespace ptx = kernels::cuda::ptx;

inline constexpr uint32_t kSharedBytes = 48 * 1024, kBase = SharedMemory::kBase;
inline constexpr int kThreads = 128;

template <class F>
void run_warpgroups(const Mode& mode, int count, F f) {
  launch(1, static_cast<unsigned>(count * kThreads), kSharedBytes, mode, [&] { f(static_cast<int>(threadIdx.x)); });
}
template <class F>
void expect_right_of_warpgroup(F f) {
  for (const Mode& mode : every_mode()) run_warpgroups(mode, 1, f);
}
template <class F>
void expect_wrong_of_warpgroup(std::initializer_list<const char*> texts, F f, int count = 1) {
  expect_error(texts, [&](const Mode& mode) { run_warpgroups(mode, count, f); });
}

// 16-bit elements in shared memory: chunks of rows, each of 128, 64 or 32 bytes, of all rows one after the other.
struct Matrix {
  uint32_t base;
  int rows, columns, chunk;

  // CUDA driver API, CU_TENSOR_MAP_SWIZZLE_128B, 64B, 32B.
  [[nodiscard]] uint32_t place(int row, int column) const {
    const int swap = chunk == 128 ? row % 8 : chunk == 64 ? row / 2 % 4 : row / 4 % 2;
    const int byte = 2 * column % chunk;
    return base +
           static_cast<uint32_t>(2 * column / chunk * rows * chunk + row * chunk + (byte / 16 ^ swap) * 16 + byte % 16);
  }
  // Of what starts at a row and column of it.
  [[nodiscard]] uint64_t descriptor(int row, int column) const {
    const uint64_t swizzle = chunk == 128 ? 1 : chunk == 64 ? 2 : 3;
    const auto from =
        base + static_cast<uint32_t>(2 * column / chunk * rows * chunk + row * chunk + 2 * column % chunk);
    return swizzle << 62 | static_cast<uint64_t>(8 * chunk / 16) << 32 |
           static_cast<uint64_t>(rows * chunk / 16) << 16 | from / 16;
  }
  // By all threads of a warpgroup.
  template <class T, class F>
  void fill(int thread, F f) const {
    for (int i = thread % kThreads; i < rows * columns; i += kThreads) {
      const int row = i / columns, column = i % columns;
      ptx::store_shared(place(row, column), ptx::round_to<T>(f(row, column)));
    }
  }
};

// Whole numbers, so that sums are exact.
inline float of_a(int row, int k) {
  return static_cast<float>((row * 7 + k * 5) % 13 - 6);
}
inline float of_b(int k, int column) {
  return static_cast<float>((k * 11 + column * 3) % 17 - 8);
}
inline float of_d(int row, int column) {
  return static_cast<float>(100 * row + column);
}

// PTX ISA, "Register Fragments" of wgmma.mma_async.m64nNk16: of thread `thread`.
inline int row_of(int thread, int i) {
  return thread / 32 * 16 + thread % 32 / 4 + i / 2 * 8;
}
inline int column_of(int thread, int tile, int i) {
  return 8 * tile + thread % 4 * 2 + i % 2;
}
template <class T>
void load_a(int thread, uint32_t (&a)[4]) {
  for (int i = 0; i < 4; ++i) {
    const int row = row_of(thread, i % 2 * 2), k = i / 2 * 8 + thread % 4 * 2;
    a[i] = ptx::pack<T>(of_a(row, k), of_a(row, k + 1));
  }
}
template <int N>
void load_d(int thread, float (&d)[N / 8][4]) {
  for (int i = 0; i < N / 2; ++i) d[i / 4][i % 4] = of_d(row_of(thread, i % 4), column_of(thread, i / 4, i % 4));
}
template <int N>
void expect_d(int thread, const float (&d)[N / 8][4], bool added) {
  for (int i = 0; i < N / 2; ++i) {
    const int row = row_of(thread, i % 4), column = column_of(thread, i / 4, i % 4);
    float expected = added ? of_d(row, column) : 0;
    for (int k = 0; k < 16; ++k) expected += of_a(row, k) * of_b(k, column);
    EXPECT_EQ(d[i / 4][i % 4], expected) << "thread " << thread << " element " << i;
  }
}

inline void store_and_meet() {
  ptx::fence_stores_to_products();
  ptx::sync_block();
}
inline void wait_for_all() {
  ptx::commit_products();
  ptx::wait_for_products<0>();
}

// What tests start from: matrices that are there, and one product.
struct Operands {
  static constexpr uint32_t kAt = kBase + 1024;  // barriers before it
  uint32_t a[4];
  float d[8][4];
  Matrix b{kAt, 72, 16, 32};
  uint64_t to_b = b.descriptor(0, 0);

  explicit Operands(int thread, bool has_fence = true) {
    if (thread < kThreads) b.fill<bfloat16>(thread, [](int row, int column) { return of_b(column, row); });
    if (has_fence) ptx::fence_stores_to_products();
    ptx::sync_block();
    load_a<bfloat16>(thread, a);
    load_d<64>(thread, d);
  }
  void add() { ptx::add_async<bfloat16>(d, a, to_b); }
  void multiply() { ptx::multiply_async<bfloat16>(d, a, to_b); }
};

}  // namespace longfold::simt
