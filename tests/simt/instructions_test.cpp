// Fragments against the layouts that the PTX ISA documents, element by element, and the rounding of single numbers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "longfold/kernels/cuda/ptx.cuh"
#include "tests/simt/every_mode.h"
#include "tests/simt/simt.h"

namespace longfold::simt {
namespace {

using kernels::bfloat16;
using kernels::float16;
namespace ptx = kernels::cuda::ptx;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

int this_lane() {
  return static_cast<int>(threadIdx.x) % 32;
}

// f(lane, mode) for 32 threads with 4 KB of shared memory from `base` on.
template <class F>
void run_warp(F f) {
  for (const Mode& mode : every_mode())
    launch(1, 32, 4096, mode, [&] { f(ptx::shared_address(nullptr), this_lane()); });
}

// PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type" (and m16n8k8, whose `a` has elements 0 to 3 and
// `b` 0 and 1): groupID = laneid >> 2, threadID_in_group = laneid % 4.
int a_row(int lane, int i) {
  return i % 4 < 2 ? lane / 4 : lane / 4 + 8;
}
int a_column(int lane, int i) {
  return lane % 4 * 2 + i % 2 + (i < 4 ? 0 : 8);
}
int b_row(int lane, int i) {
  return lane % 4 * 2 + i % 2 + (i < 2 ? 0 : 8);
}
int b_column(int lane) {
  return lane / 4;
}
int c_row(int lane, int i) {
  return i < 2 ? lane / 4 : lane / 4 + 8;
}
int c_column(int lane, int i) {
  return lane % 4 * 2 + i % 2;
}

template <class T, int Depth>
void expect_documented_product() {
  float a[16][Depth], b[Depth][8], c[16][8];
  std::mt19937 random(3);
  const auto small = [&] { return static_cast<float>(static_cast<int>(random() % 17) - 8); };
  for (auto& row : a) std::generate(std::begin(row), std::end(row), small);
  for (auto& row : b) std::generate(std::begin(row), std::end(row), small);
  for (auto& row : c) std::generate(std::begin(row), std::end(row), small);
  run_warp([&](uint32_t, int lane) {
    uint32_t a_words[4], b_words[2];
    for (int i = 0; i < Depth / 2; i += 2) {
      const int row = a_row(lane, i);
      a_words[i / 2] = ptx::pack<T>(a[row][a_column(lane, i)], a[row][a_column(lane, i + 1)]);
    }
    for (int i = 0; i < Depth / 4; i += 2) {
      b_words[i / 2] = ptx::pack<T>(b[b_row(lane, i)][b_column(lane)], b[b_row(lane, i + 1)][b_column(lane)]);
    }
    float d[4];
    for (int i = 0; i < 4; ++i) d[i] = c[c_row(lane, i)][c_column(lane, i)];
    if constexpr (Depth == 16) {
      ptx::multiply<T>(d, a_words, b_words[0], b_words[1], d);
    } else {
      ptx::multiply_half<T>(d, a_words[0], a_words[1], b_words[0], d);
    }
    for (int i = 0; i < 4; ++i) {
      const int row = c_row(lane, i), column = c_column(lane, i);
      float expected = c[row][column];
      for (int k = 0; k < Depth; ++k) expected += a[row][k] * b[k][column];
      EXPECT_EQ(d[i], expected) << "lane " << lane << " element " << i;
    }
  });
}

TEST(Instructions, MultiplyHasTheDocumentedFragments) {
  expect_documented_product<bfloat16, 16>();
  expect_documented_product<float16, 16>();
  expect_documented_product<bfloat16, 8>();
  expect_documented_product<float16, 8>();
}

// 1 + 2^-24 would be lost before 2^-24 more came, if sums were rounded one by one.
TEST(Instructions, MultiplyRoundsOnce) {
  run_warp([](uint32_t, int) {
    const uint32_t a = ptx::pack<bfloat16>(0x1p-12f, 0x1p-12f), zero = 0;
    const uint32_t words[4] = {a, a, zero, zero};
    const float one[4] = {1, 1, 1, 1};
    float d[4];
    ptx::multiply<bfloat16>(d, words, a, zero, one);
    EXPECT_EQ(d[0], 1 + 8 * 0x1p-24f);
  });
}

TEST(Instructions, MultiplyKeepsInfinitiesAndNaN) {
  run_warp([](uint32_t, int lane) {
    const uint32_t word = ptx::pack<float16>(lane == 0 ? kInfinity : 0.0f, 0.0f);  // row 0, k 0
    const uint32_t a[4] = {word, 0, 0, 0};
    float d[4] = {};
    ptx::multiply<float16>(d, a, ptx::pack<float16>(lane == 4 ? 0.0f : 1.0f, 0.0f), 0, d);  // column 1, k 0
    EXPECT_EQ(d[0], lane < 4 ? kInfinity : 0.0f);
    EXPECT_EQ(std::isnan(d[1]), lane == 0);
  });
}

// PTX ISA, ldmatrix: threads 0-7 give the rows of the first matrix, 8-15 of the second, and so on; thread t receives
// elements 2 (t % 4) and 2 (t % 4) + 1 of row t / 4, with .trans of column t / 4.
TEST(Instructions, LoadMatricesHasTheDocumentedFragments) {
  run_warp([](uint32_t base, int lane) {
    const auto element = [](int matrix, int row, int column) {
      return static_cast<uint16_t>(matrix * 64 + row * 8 + column);
    };
    const uint32_t pitch = 48;  // rows of 16 bytes, with padding that nobody writes
    const uint32_t row = base + static_cast<uint32_t>(31 - lane) * pitch;
    for (int column = 0; column < 8; ++column) {
      ptx::store_shared(row + static_cast<uint32_t>(column) * 2, element(lane / 8, lane % 8, column));
    }
    ptx::sync_warp();
    uint32_t plain[4], transposed[4];
    ptx::load_matrices(plain, row);
    ptx::load_matrices_transposed(transposed, row);
    for (int matrix = 0; matrix < 4; ++matrix) {
      const int major = lane / 4, minor = lane % 4 * 2;
      EXPECT_EQ(plain[matrix], static_cast<uint32_t>(element(matrix, major, minor)) |
                                   static_cast<uint32_t>(element(matrix, major, minor + 1)) << 16);
      EXPECT_EQ(transposed[matrix], static_cast<uint32_t>(element(matrix, minor, major)) |
                                        static_cast<uint32_t>(element(matrix, minor + 1, major)) << 16);
    }
  });
}

TEST(Instructions, LanesTalk) {
  run_warp([](uint32_t, int lane) {
    for (const int lanes : {1, 2, 4, 8, 16, 31}) {
      EXPECT_EQ(ptx::shuffle_xor(static_cast<float>(lane), lanes), static_cast<float>(lane ^ lanes));
    }
    EXPECT_EQ(ptx::ballot(lane % 3 == 1), 0x92492492u);
    EXPECT_TRUE(ptx::any(lane == 31));
    EXPECT_FALSE(ptx::any(lane == 32));
  });
}

TEST(Instructions, SharedMemoryHoldsEveryType) {
  run_warp([](uint32_t base, int lane) {
    const uint32_t at = base + static_cast<uint32_t>(lane) * 32;
    ptx::store_shared(at, float4{1, 2, 3, static_cast<float>(lane)});
    EXPECT_EQ(ptx::load_shared<float>(at + 12), static_cast<float>(lane));
    EXPECT_EQ(ptx::load_shared<float2>(at + 8).x, 3.0f);
    ptx::store_shared(at + 16, 0x40490fdbu);
    ptx::store_shared(at + 18, static_cast<uint16_t>(0xc049));
    EXPECT_EQ(ptx::load_shared<uint32_t>(at + 16), 0xc0490fdbu);
    ptx::store_shared(at, -1.0f);
    EXPECT_EQ(ptx::load_shared<float4>(at).x, -1.0f);
    EXPECT_EQ(ptx::load_shared<float4>(at).y, 2.0f);
  });
}

TEST(Instructions, PackRoundsToNearestEven) {
  EXPECT_EQ(ptx::pack<bfloat16>(1.0f, 1 + 0x1p-8f), 0x3f803f80u);            // a tie, to even
  EXPECT_EQ(ptx::pack<bfloat16>(1 + 0x3p-8f, 1 + 0x1.01p-8f), 0x3f813f82u);  // a tie, to even; above a tie
  EXPECT_EQ(ptx::pack<float16>(65519.0f, 65520.0f), 0x7c007bffu);            // the largest; overflows
  EXPECT_EQ(ptx::pack<float16>(0x1p-24f, -0x1p-25f), 0x80000001u);           // subnormals are kept; a tie, to 0
  EXPECT_EQ(ptx::pack<float16>(NAN, -kInfinity), 0xfc007fffu);
  EXPECT_EQ(ptx::pack<bfloat16>(NAN, -kInfinity), 0xff807fffu);
  EXPECT_EQ(ptx::unpack<float16>(0xfc000001u).x, 0x1p-24f);
  EXPECT_EQ(ptx::unpack<float16>(0xfc000001u).y, -kInfinity);
  EXPECT_EQ(ptx::unpack<bfloat16>(0xbf803f81u).x, 1 + 0x1p-7f);
  EXPECT_EQ(ptx::unpack<bfloat16>(0xbf803f81u).y, -1.0f);
  EXPECT_EQ(ptx::round_to<float16>(-2.0f), 0xc000);
}

TEST(Instructions, Exp2FlushesSubnormals) {
  EXPECT_EQ(ptx::exp2(3.0f), 8.0f);
  EXPECT_EQ(ptx::exp2(-126.0f), 0x1p-126f);
  EXPECT_EQ(ptx::exp2(-126.5f), 0.0f);
  EXPECT_EQ(ptx::exp2(-kInfinity), 0.0f);
  EXPECT_EQ(ptx::exp2(200.0f), kInfinity);
  EXPECT_EQ(ptx::exp2(0x1p-140f), 1.0f);
  EXPECT_TRUE(std::isnan(ptx::exp2(NAN)));
}

std::string text_of(const std::string& path) {
  std::ifstream file(LONGFOLD_SOURCE_DIR "/" + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// One more function in the kernels' headers wants one more here.
void expect_functions_of(const std::string& header, size_t at_least) {
  const std::string emulated = text_of("tests/simt/include/" + header);
  std::istringstream lines(text_of(header));
  std::set<std::string> names;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("__device__ ")) continue;
    const std::string start = line.substr(0, line.find_first_of("(<"));
    names.insert(start.substr(start.rfind(' ') + 1));
  }
  EXPECT_GE(names.size(), at_least);
  for (const std::string& name : names) {
    EXPECT_NE(emulated.find(" " + name + "("), std::string::npos) << name << " is missing";
  }
}

TEST(Instructions, AreThoseOfTheKernels) {
  expect_functions_of("longfold/kernels/cuda/ptx.cuh", 20);
  expect_functions_of("longfold/kernels/cuda/ptx_wgmma.cuh", 8);
}

}  // namespace
}  // namespace longfold::simt
