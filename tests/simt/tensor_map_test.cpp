// Copies of boxes of tensors: what lies where, and what is left out.
#include "tests/simt/tensor_map.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "longfold/kernels/cuda/ptx.cuh"
#include "tests/simt/every_mode.h"

namespace longfold::simt {
namespace {

namespace ptx = kernels::cuda::ptx;

// [2, 7, columns] words in rows of 32, with their index as content; boxes of 16 columns by 4 rows, and one of 2.
struct Tensor {
  static constexpr uint32_t kBoxBytes = 4 * 16 * 4;
  struct alignas(16) Unit {
    uint32_t words[4];
  };
  std::vector<Unit> units{2 * 7 * 8};
  alignas(64) std::byte map[128];

  explicit Tensor(uint64_t columns, int swizzle_bytes) {
    for (uint32_t i = 0; i < units.size() * 4; ++i) units[i / 4].words[i % 4] = i;
    EXPECT_TRUE(encode_tensor_map(map, units.data(), 4, {columns, 7, 2, 1, 1}, {128, 7 * 128, 16, 16}, {16, 4, 1, 1, 1},
                                  swizzle_bytes));
  }
};

void make_barrier(int thread, uint32_t barrier) {
  if (thread == 0) ptx::barrier_init(barrier, 1);
  if (thread == 0) ptx::fence_barrier_init();
  ptx::sync_block();
}

// Every lane of a warp reads a word of each row; swap(row, unit) is where a unit lies.
template <class Swap>
void expect_box(const Tensor& tensor, int column, int row, int plane, int columns, Swap swap) {
  expect_right([&](int thread, uint32_t base) {
    make_barrier(thread, base);
    if (thread == 0) {
      ptx::expect_bytes(base, Tensor::kBoxBytes);
      ptx::copy_box(base + 512, tensor.map, base, {column, row, plane, 0, 0});
      ptx::barrier_arrive(base);
    }
    ptx::barrier_wait(base, 0);
    const int r = thread / 16, c = thread % 16;
    const bool is_there = row + r >= 0 && row + r < 7 && column + c < columns;
    const auto at = static_cast<uint32_t>(r * 64 + swap(r, c / 4) * 16 + c % 4 * 4);
    EXPECT_EQ(ptx::load_shared<uint32_t>(base + 512 + at),
              is_there ? static_cast<uint32_t>((plane * 7 + row + r) * 32 + column + c) : 0u);
  });
}

TEST(TensorMap, BoxesLieInRows) {
  const auto in_order = [](int, int unit) { return unit; };
  expect_box(Tensor(32, 0), 0, 0, 0, 32, in_order);
  expect_box(Tensor(32, 0), 12, 2, 1, 32, in_order);
}

// CUDA driver API, CU_TENSOR_MAP_SWIZZLE_64B: a pattern of 512 bytes, where bits 4 and 5 are changed by bits 7 and 8.
TEST(TensorMap, SwizzledBoxesSwapUnits) {
  expect_box(Tensor(32, 64), 4, 1, 0, 32, [](int row, int unit) { return unit ^ (row / 2 % 4); });
}

TEST(TensorMap, WhatIsOutsideBecomesZero) {
  const auto in_order = [](int, int unit) { return unit; };
  expect_box(Tensor(32, 0), 20, 5, 1, 32, in_order);
  expect_box(Tensor(29, 0), 16, -2, 0, 29, in_order);  // ends within 16 bytes; starts before row 0
  expect_box(Tensor(32, 0), 32, 0, 0, 32, in_order);
}

struct Steps {
  bool fence = true, expect = true, wait = true;
  uint32_t more_bytes = 0, offset = 512;

  void operator()(int thread, uint32_t base) const {
    if (thread == 0) ptx::barrier_init(base, 1);
    if (thread == 0 && fence) ptx::fence_barrier_init();
    ptx::sync_block();
    if (thread == 0) {
      if (expect) ptx::expect_bytes(base, Tensor::kBoxBytes + more_bytes);
      ptx::copy_box(base + offset, tensor->map, base, {0, 0, 0, 0, 0});
      ptx::barrier_arrive(base);
    }
    if (wait) ptx::barrier_wait(base, 0);
    ptx::load_shared<uint32_t>(base + 512 + static_cast<uint32_t>(thread) * 4);
  }

  const Tensor* tensor;
};

TEST(TensorMap, WhatIsLeftOutIsNoticed) {
  const Tensor tensor(32, 0);
  const auto steps = [&](auto change) {
    Steps all{.tensor = &tensor};
    change(all);
    return all;
  };
  expect_right(steps([](Steps&) {}));
  expect_wrong({"expected fence_barrier_init"}, steps([](Steps& s) { s.fence = false; }));
  expect_wrong({"is under way", "bytes of boxes"}, steps([](Steps& s) { s.expect = false; }));
  expect_wrong({"1 of 1 arrived and 16 bytes of boxes are expected"}, steps([](Steps& s) { s.more_bytes = 16; }));
  expect_wrong({"is under way", "which nobody wrote", "without a wait", "read by"},
               steps([](Steps& s) { s.wait = false; }));
  expect_wrong({"a multiple of 128"}, steps([](Steps& s) { s.offset = 528; }));
}

TEST(TensorMap, ArrivalsAreCountedWhileBytesAreExpected) {
  expect_wrong({"more than the 1 arrivals of a phase"}, [](int thread, uint32_t base) {
    make_barrier(thread, base);
    if (thread == 0) ptx::expect_bytes(base, 16);
    if (thread == 0) ptx::barrier_arrive(base);
    if (thread == 0) ptx::barrier_arrive(base);
  });
}

TEST(TensorMap, ExpectedBytesMustCome) {
  expect_wrong({"the block ended while a barrier expects 16 more bytes"}, [](int thread, uint32_t base) {
    make_barrier(thread, base);
    if (thread == 0) ptx::expect_bytes(base, 16);
  });
}

TEST(TensorMap, OtherBytesAreNoMap) {
  alignas(64) const std::byte map[128] = {};
  expect_wrong({"expected a map of simt::encode_tensor_map"}, [&](int thread, uint32_t base) {
    make_barrier(thread, base);
    if (thread == 0) ptx::copy_box(base + 512, map, base, {0, 0, 0, 0, 0});
  });
}

TEST(TensorMap, RefusesWhatTheDriverRefuses) {
  alignas(64) std::byte map[128];
  alignas(16) const float data[8] = {};
  const auto encodes = [&](const void* from, uint64_t size, uint64_t stride, uint32_t box, int swizzle) {
    return encode_tensor_map(map, from, 4, {size, 1, 1, 1, 1}, {stride, 16, 16, 16}, {box, 1, 1, 1, 1}, swizzle);
  };
  EXPECT_TRUE(encodes(data, 8, 32, 8, 32));
  EXPECT_FALSE(encodes(data + 1, 8, 32, 8, 32)) << "not aligned";
  EXPECT_FALSE(encodes(data, 0, 32, 8, 32)) << "empty";
  EXPECT_FALSE(encodes(data, 8, 24, 8, 32)) << "a stride that is not a multiple of 16";
  EXPECT_FALSE(encodes(data, 8, 32, 6, 0)) << "a box with rows that are not a multiple of 16";
  EXPECT_FALSE(encodes(data, 8, 32, 16, 32)) << "a box with rows longer than the swizzle";
  EXPECT_FALSE(encodes(data, 8, 32, 260, 0)) << "a box of more than 256";
}

}  // namespace
}  // namespace longfold::simt
