#include "longfold/model/rotary.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "longfold/memory/meter.h"

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

// What the rotation of one head should be, by the formula.
double turned(const at::Tensor& x, const RotaryTables& tables, int64_t s, int64_t d) {
  const int64_t half = tables.cos.size(-1);
  const auto in = [&](int64_t i) { return x[i].item<double>(); };
  if (d >= 2 * half) return in(d);
  const double cos = tables.cos[0][s][d % half].item<double>(), sin = tables.sin[0][s][d % half].item<double>();
  return d < half ? in(d) * cos - in(d + half) * sin : in(d) * cos + in(d - half) * sin;
}

TEST(Rotary, TurnsEachPairOfQueriesAndKeysAndLeavesTheRest) {
  const at::Tensor qkv = at::randn({1, 3, 2, 30}, at::kDouble);
  const RotaryTables tables = rotary_tables(positions_of({5, 6, 9}), 4, 100);
  const Qkv split = split_and_rotate(qkv.clone(), 10, tables);
  for (int64_t s = 0; s < 3; ++s) {
    for (int64_t h = 0; h < 2; ++h) {
      for (int64_t d = 0; d < 10; ++d) {
        const at::Tensor head = qkv[0][s][h];
        EXPECT_NEAR(split.q[0][s][h][d].item<double>(), turned(head.slice(0, 0, 10), tables, s, d), 1e-15);
        EXPECT_NEAR(split.k[0][s][h][d].item<double>(), turned(head.slice(0, 10, 20), tables, s, d), 1e-15);
        EXPECT_EQ(split.v[0][s][h][d].item<double>(), head[20 + d].item<double>());
      }
    }
  }
}

TEST(Rotary, HeadsOfQueriesOfAGroupLieBeforeItsKeyAndValue) {
  const RotaryTables tables = rotary_tables(positions_of({5, 6, 9}), 4, 100);
  const at::Tensor qkv = at::randn({1, 3, 2, 5 * 6}, at::kDouble);  // two groups: three queries, a key, a value, of 6
  const Qkv split = split_and_rotate(qkv.clone(), 6, tables);
  EXPECT_EQ(split.q.sizes(), at::IntArrayRef({1, 3, 6, 6}));
  EXPECT_EQ(split.k.sizes(), at::IntArrayRef({1, 3, 2, 6}));
  for (int64_t group = 0; group < 2; ++group) {
    const auto head = [&](int64_t i) { return qkv.select(2, group).narrow(-1, 6 * i, 6); };  // [1, 3, 6]
    const auto alone = [&](int64_t i) {  // as the queries of a projection that has no others
      return split_and_rotate(at::cat({head(i), head(3), head(4)}, -1).unsqueeze(2), 6, tables);
    };
    for (int64_t i = 0; i < 3; ++i) EXPECT_TRUE(at::equal(split.q.select(2, 3 * group + i), alone(i).q.select(2, 0)));
    EXPECT_TRUE(at::equal(split.k.select(2, group), alone(0).k.select(2, 0)));
    EXPECT_TRUE(at::equal(split.v.select(2, group), head(4)));
  }
}

TEST(Rotary, ScalingDividesPositions) {
  const RotaryTables scaled = rotary_tables(positions_of({0, 4, 8}), 6, 100, 4);
  const RotaryTables plain = rotary_tables(positions_of({0, 1, 2}), 6, 100);
  EXPECT_TRUE(at::equal(scaled.cos, plain.cos));
  EXPECT_TRUE(at::equal(scaled.sin, plain.sin));
}

class RotaryGradient : public testing::TestWithParam<int64_t> {};

TEST_P(RotaryGradient, IsTheTransposedRotation) {
  const int64_t queries = GetParam();  // of a group
  const RotaryTables tables = rotary_tables(positions_of({5, 6, 9}), 4, 100);
  const at::Tensor x = at::randn({1, 3, 2, 6 * (queries + 2)}, at::kDouble).requires_grad_();
  const at::Tensor of_q = at::randn({1, 3, 2 * queries, 6}, at::kDouble);
  const at::Tensor weight = at::randn({2, 1, 3, 2, 6}, at::kDouble);
  const auto scalar = [&](const at::Tensor& input) {
    const Qkv split = split_and_rotate(input * 1, 6, tables);
    return (split.q * of_q).sum() + (split.k * weight[0] + split.v * weight[1]).sum();
  };
  scalar(x).backward();
  const at::NoGradGuard no_grad;  // linear, so a finite difference of any size is exact
  for (int64_t i = 0; i < x.numel(); ++i) {
    at::Tensor step = at::zeros_like(x);
    step.view(-1)[i] = 1;
    EXPECT_NEAR(x.grad().view(-1)[i].item<double>(), (scalar(x + step) - scalar(x)).item<double>(), 1e-12);
  }
}

INSTANTIATE_TEST_SUITE_P(QueriesOfAGroup, RotaryGradient, testing::Values(1, 3));

TEST(Rotary, NeedsNoMemoryOfItsOwnSize) {
  const auto meter = memory::MemoryMeter::install();
  const RotaryTables tables = rotary_tables(at::arange(1000).unsqueeze(0), 8, 10000);
  const at::Tensor qkv = at::randn({1, 1000, 4, 96});
  const int64_t before = meter.live();
  const Qkv split = split_and_rotate(qkv, 32, tables);
  EXPECT_EQ(meter.live(), before);
  EXPECT_EQ(split.q.storage().data(), qkv.storage().data());
}

TEST(Rotary, RefusesAProjectionOfOtherSizes) {
  const RotaryTables tables = rotary_tables(positions_of({5, 6, 9}), 4, 100);
  EXPECT_THROW(split_and_rotate(at::zeros({1, 3, 2, 20}), 6, tables), c10::Error);
  EXPECT_THROW(split_and_rotate(at::zeros({1, 3, 2, 12}), 6, tables), c10::Error);
  EXPECT_THROW(split_and_rotate(at::zeros({1, 4, 2, 18}), 6, tables), c10::Error);
}

TEST(Rotary, RefusesFloatingPositions) {
  EXPECT_THROW(rotary_tables(at::zeros({1, 4}), 4, 10000), c10::Error);
}

TEST(Rotary, OnAGpuHasTheBitsOfTheCpu) {
  if (!at::hasCUDA()) GTEST_SKIP() << "no GPU";
  at::manual_seed(4);
  const at::Tensor positions = at::arange(900, 1000, at::kLong).unsqueeze(0).repeat({2, 1});
  for (const auto dtype : {at::kBFloat16, at::kHalf}) {
    for (const int64_t group : {1, 3}) {
      const at::Tensor qkv = at::randn({2, 100, 2, (group + 2) * 28}).to(dtype);
      const at::Tensor grad = at::randn({2, 100, 2 * group, 28}).to(dtype);
      const auto on = [&](at::Device device) {
        const at::Tensor leaf = qkv.to(device).clone().requires_grad_();
        const RotaryTables tables = rotary_tables(positions, 14, 10000);
        const Qkv parts = split_and_rotate(leaf * 1, 28, {tables.cos.to(device), tables.sin.to(device)});
        ((parts.q * grad.to(device)).sum() + parts.k.sum() + parts.v.sum()).backward();
        return std::vector<at::Tensor>{parts.q.cpu(), parts.k.cpu(), parts.v.cpu(), leaf.grad().cpu()};
      };
      const std::vector<at::Tensor> cpu = on(at::kCPU), gpu = on(at::kCUDA);
      for (size_t i = 0; i < cpu.size(); ++i) EXPECT_TRUE(at::equal(cpu[i], gpu[i])) << dtype << group << i;
    }
  }
}

}  // namespace
}  // namespace longfold::model
