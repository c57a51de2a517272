#include "longfold/kernels/cpu/simd.h"

#include <gtest/gtest.h>

#include <cmath>

namespace longfold::kernels {
namespace {

TEST(Simd, Exp2IsAccurateAndFlushesToZero) {
  double worst = 0;
  for (float x = -126.0f; x <= 1.0f; x += 1.0f / 1021) {
    const double exact = std::exp2(static_cast<double>(x));
    worst = std::max(worst, std::abs(exp2(splat(x))[0] - exact) / exact);
  }
  EXPECT_LT(worst, 2.5e-7) << "7.5e-8 of the polynomial, the rest is what fp32 rounds";
  EXPECT_GT(worst, 1e-8) << "or nothing was measured";
  for (const float x : {-126.5f, -1000.0f, -1e30f, -INFINITY}) EXPECT_EQ(exp2(splat(x))[0], 0.0f) << x;
  EXPECT_TRUE(std::isnan(exp2(splat(std::nanf("")))[0]));
}

TEST(Simd, LogIsAccurate) {
  for (float x = 1.0f; x < 1e6f; x *= 1.0007f) {
    EXPECT_NEAR(log(splat(x))[0], std::log(static_cast<double>(x)), 1e-6) << x;
  }
  EXPECT_EQ(log(splat(1.0f))[0], 0.0f);
}

}  // namespace
}  // namespace longfold::kernels
