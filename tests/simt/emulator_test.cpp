// The emulator by itself: a product of matrices with everything that the kernels use, in every mode, and with one thing
// left out at a time.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "tests/simt/product_kernel.cuh"
#include "tests/simt/simt.h"

namespace longfold::kernels::cuda::product {
char shared[1];
}

namespace longfold::simt {
namespace {

using kernels::bfloat16;
using kernels::float16;
namespace product = kernels::cuda::product;
using product::Break;

std::vector<Mode> all_modes() {
  std::vector<Mode> modes;
  for (const Delivery delivery : {Delivery::kEarliest, Delivery::kLatest}) {
    modes.push_back({Order::kAscending, delivery});
    modes.push_back({Order::kDescending, delivery});
    for (uint64_t seed = 0; seed < 4; ++seed) modes.push_back({Order::kShuffled, delivery, seed});
  }
  return modes;
}

template <class T>
uint16_t rounded(float value) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    return kernels::to_bfloat16(value).bits;
  } else {
    return kernels::to_float16(value).bits;
  }
}

struct Problem {
  int m, n, k;
  std::vector<uint16_t> a, b;

  [[nodiscard]] product::Params params(std::vector<float>& c) const { return {a.data(), b.data(), c.data(), m, n, k}; }
};

template <class T>
Problem problem(int m, int n, int k) {
  Problem result{m, n, k, {}, {}};
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  for (int i = 0; i < m * k; ++i) result.a.push_back(rounded<T>(normal(random)));
  for (int i = 0; i < n * k; ++i) result.b.push_back(rounded<T>(normal(random)));
  return result;
}

template <class T, Break Broken = Break::kNothing>
std::vector<float> multiplied(const Problem& problem, const Mode& mode, size_t shared_bytes = product::kSharedBytes) {
  std::vector<float> c(static_cast<size_t>(problem.m * problem.n), NAN);
  launch(2, product::kThreads, shared_bytes, mode, product::kernel<T, Broken>, problem.params(c));
  return c;
}

template <class T>
void expect_product(const Problem& problem) {
  const std::vector<float> c = multiplied<T>(problem, {});
  for (int i = 0; i < problem.m; ++i) {
    for (int j = 0; j < problem.n; ++j) {
      double expected = 0;
      for (int k = 0; k < problem.k; ++k) {
        expected += static_cast<double>(kernels::to_float(T{problem.a[static_cast<size_t>(i * problem.k + k)]})) *
                    static_cast<double>(kernels::to_float(T{problem.b[static_cast<size_t>(j * problem.k + k)]}));
      }
      EXPECT_NEAR(static_cast<double>(c[static_cast<size_t>(i * problem.n + j)]), expected, 1e-5) << i << ' ' << j;
    }
  }
  for (const Mode& mode : all_modes()) EXPECT_EQ(multiplied<T>(problem, mode), c);
}

TEST(Product, IsRightAndTheSameInEveryMode) {
  expect_product<bfloat16>(problem<bfloat16>(80, 40, 72));
  expect_product<float16>(problem<float16>(33, 17, 8));
}

// Fails unless every mode ends in an Error with this text.
template <Break Broken>
void expect_noticed(const std::string& text) {
  const Problem given = problem<bfloat16>(80, 40, 72);
  for (const Mode& mode : all_modes()) {
    try {
      multiplied<bfloat16, Broken>(given, mode);
      ADD_FAILURE() << "nothing was noticed";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
    }
  }
}

TEST(Product, WhatIsLeftOutIsNoticedInEveryMode) {
  expect_noticed<Break::kBlockBarrierAfterInit>("barrier");
  expect_noticed<Break::kWaitForFull>("");
  expect_noticed<Break::kWaitForEmpty>("copies to shared byte");
  expect_noticed<Break::kArriveAtEmpty>("can go on");
  expect_noticed<Break::kOneCopiesArrive>("31 of 32 arrived");
  expect_noticed<Break::kParityOfFull>("");
}

}  // namespace
}  // namespace longfold::simt
