#include "longfold/model/rotary.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace longfold::model {
namespace {

at::Tensor positions_of(std::vector<int64_t> values) {
  return at::tensor(values, at::kLong).unsqueeze(0);
}

TEST(Rotary, TablesHoldFarPositions) {
  const std::vector<int64_t> positions{0, 1, 48502, 1'000'003, 16'777'217};  // the last is no fp32 number
  const RotaryTables tables = rotary_tables(positions_of(positions), 6, 10000);
  ASSERT_EQ(tables.cos.sizes(), (std::vector<int64_t>{1, 5, 3}));
  ASSERT_EQ(tables.cos.scalar_type(), at::kFloat);
  for (size_t p = 0; p < positions.size(); ++p) {
    for (int64_t i = 0; i < 3; ++i) {
      const long double angle = positions[p] * std::pow(10000.0L, -2.0L * i / 6);
      EXPECT_NEAR(tables.cos[0][p][i].item<double>(), static_cast<double>(std::cos(angle)), 1e-7)
          << positions[p] << " " << i;
      EXPECT_NEAR(tables.sin[0][p][i].item<double>(), static_cast<double>(std::sin(angle)), 1e-7)
          << positions[p] << " " << i;
    }
  }
}

TEST(Rotary, RestartingPositionsGiveTheSameRowsAgain) {
  const RotaryTables tables = rotary_tables(positions_of({0, 1, 2, 0, 1}), 8, 10000);
  EXPECT_TRUE(at::equal(tables.sin.narrow(1, 0, 2), tables.sin.narrow(1, 3, 2)));
  EXPECT_FALSE(at::equal(tables.sin.narrow(1, 1, 2), tables.sin.narrow(1, 3, 2)));
}

TEST(Rotary, TurnsEachPairAndLeavesTheRest) {
  const at::Tensor x = at::randn({1, 3, 2, 10}, at::kDouble);
  const RotaryTables tables = rotary_tables(positions_of({5, 6, 9}), 4, 100);
  const at::Tensor turned = apply_rotary(x, tables);
  for (int64_t s = 0; s < 3; ++s) {
    for (int64_t h = 0; h < 2; ++h) {
      const auto in = [&](int64_t d) { return x[0][s][h][d].item<double>(); };
      const auto out = [&](int64_t d) { return turned[0][s][h][d].item<double>(); };
      for (int64_t i = 0; i < 2; ++i) {
        const double c = tables.cos[0][s][i].item<double>(), n = tables.sin[0][s][i].item<double>();
        EXPECT_DOUBLE_EQ(out(i), in(i) * c - in(i + 2) * n);
        EXPECT_DOUBLE_EQ(out(i + 2), in(i + 2) * c + in(i) * n);
      }
      for (int64_t d = 4; d < 10; ++d) EXPECT_EQ(out(d), in(d));
    }
  }
}

TEST(Rotary, RefusesFloatingPositions) {
  EXPECT_THROW(rotary_tables(at::zeros({1, 4}), 4, 10000), c10::Error);
}

}  // namespace
}  // namespace longfold::model
