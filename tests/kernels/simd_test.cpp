#include "longfold/kernels/cpu/simd.h"

#include <gtest/gtest.h>

#include <cmath>

namespace longfold::kernels {
namespace {

TEST(Simd, ExpIsAccurateAndFlushesToZero) {
  double worst = 0;
  for (float x = -87.0f; x <= 1.0f; x += 1.0f / 1021) {
    // Near zero, where weights that count are; further out the rounding of x * log2 e adds what x itself is rounded to.
    const double exact = std::exp(static_cast<double>(x));
    const double allowed = 2.5e-7 + std::abs(static_cast<double>(x)) * 0x1.8p-24;
    worst = std::max(worst, std::abs(exp(splat(x))[0] - exact) / exact / allowed);
  }
  EXPECT_LT(worst, 1) << "7.5e-8 of the polynomial, the rest is what fp32 rounds";
  EXPECT_GT(worst, 0.1) << "or nothing was measured";
  for (const float x : {-87.5f, -1000.0f, -1e30f, -INFINITY}) EXPECT_EQ(exp(splat(x))[0], 0.0f) << x;
  EXPECT_TRUE(std::isnan(exp(splat(std::nanf("")))[0]));
}

TEST(Simd, LogIsAccurate) {
  for (float x = 1.0f; x < 1e6f; x *= 1.0007f) {
    EXPECT_NEAR(log(splat(x))[0], std::log(static_cast<double>(x)), 1e-6) << x;
  }
  EXPECT_EQ(log(splat(1.0f))[0], 0.0f);
}

}  // namespace
}  // namespace longfold::kernels
