#include "longfold/kernels/dtype.h"

#include <gtest/gtest.h>

#include <cmath>

namespace longfold::kernels {
namespace {

TEST(DType, EveryFloat16SurvivesTheWayThroughFloat) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float16 half{static_cast<uint16_t>(bits)};
    const float value = to_float(half);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(to_float(to_float16(value)))) << bits;
    } else {
      EXPECT_EQ(to_float16(value).bits, bits);
    }
  }
}

TEST(DType, Float16RoundsToTheNearestAndTiesToEven) {
  for (uint32_t bits = 0; bits + 1 < 0x7c00; ++bits) {  // every pair of neighbours, subnormals included
    const float low = to_float(float16{static_cast<uint16_t>(bits)});
    const float high = to_float(float16{static_cast<uint16_t>(bits + 1)});
    const float middle = (low + high) / 2;
    EXPECT_EQ(to_float16(middle).bits, bits % 2 == 0 ? bits : bits + 1) << bits;
    EXPECT_EQ(to_float16(std::nextafter(middle, low)).bits, bits) << bits;
    EXPECT_EQ(to_float16(std::nextafter(middle, high)).bits, bits + 1) << bits;
  }
  EXPECT_EQ(to_float16(65519.0f).bits, 0x7bff);
  EXPECT_EQ(to_float16(65520.0f).bits, 0x7c00) << "infinite";
}

TEST(DType, BFloat16RoundsToTheNearestAndTiesToEven) {
  EXPECT_EQ(to_bfloat16(1.0f).bits, 0x3f80);
  EXPECT_EQ(to_bfloat16(1.0f + 0x1p-8f).bits, 0x3f80);
  EXPECT_EQ(to_bfloat16(1.0f + 0x3p-8f).bits, 0x3f82);
  EXPECT_TRUE(std::isnan(to_float(to_bfloat16(std::nanf("")))));
}

}  // namespace
}  // namespace longfold::kernels
