// A mask of bools hides keys from the kernels on tensor cores, whatever q, k and the pair bias hold there.
#include "tests/kernels/hidden_keys.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/simt/attention_checks.h"

namespace longfold::kernels::cuda::mma {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN(), kInfinity = std::numeric_limits<double>::infinity();
constexpr int64_t kRows = 5, kQueries = 40, kKeys = 136;  // keys in whole units of 16 bytes, and not in whole tiles

struct Case {
  const char* name;
  int64_t D;
  std::vector<cases::Bias> biases;
  HostLaunch launch;
};

// Rows n that show: no key; the last five, behind a tile that is hidden whole; the first three; all; random ones. Key
// 100 is shown by the fourth alone where `spares` is set, and else by no row.
Numbers shown_keys(bool spares) {
  Numbers shown = random_numbers(DType::kFloat32, kRows * kKeys, 1, 3);
  for (int64_t i = 0; i < kRows * kKeys; ++i) {
    const int64_t n = i / kKeys, key = i % kKeys;
    double& value = shown[static_cast<size_t>(i)];
    if (n == 0) value = 0;
    if (n == 1) value = key >= kKeys - 5;
    if (n == 2) value = key < 3;
    if (n == 3) value = 1;
    if (n == 4) value = key != 100 && value > 0;
    if (key == 100 && !spares) value = 0;
  }
  return shown;
}

kernels::Problem problem_of(const Case& tested, bool spares = true) {
  const cases::EvoformerCase shape{.name = "hidden",
                                   .B = 1,
                                   .N = kRows,
                                   .Lq = kQueries,
                                   .Lk = kKeys,
                                   .H = 1,
                                   .D = tested.D,
                                   .biases = tested.biases};
  kernels::Problem problem = make_problem<bfloat16>(shape);
  problem.biases.push_back({BiasKind::kMask, DType::kBool, shown_keys(spares)});
  return problem;
}

bool is_shown(const kernels::Problem& problem, int64_t n, int64_t key) {
  return kernels::is_shown(problem, 0, n, key);
}

class HiddenKeysOnTensorCores : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (!solve_on_host<bfloat16>(problem_of(GetParam()), GetParam().launch)) GTEST_SKIP() << "not built";
  }
  static Solution solved(const kernels::Problem& problem) { return mma::solved<bfloat16>(problem, GetParam().launch); }
};

TEST_P(HiddenKeysOnTensorCores, AsPlainLoopsHaveThem) {
  for (const FullyMasked mode : {FullyMasked::kZero, FullyMasked::kMean}) {
    kernels::Problem problem = problem_of(GetParam());
    problem.fully_masked = mode;
    EXPECT_EQ(check_on_host<bfloat16>(problem, GetParam().launch), "")
        << (mode == FullyMasked::kZero ? "zero" : "mean");
  }
}

TEST_P(HiddenKeysOnTensorCores, HoldWhatTheyLike) {
  for (const FullyMasked mode : {FullyMasked::kZero, FullyMasked::kMean}) {
    kernels::Problem problem = problem_of(GetParam(), false);
    problem.fully_masked = mode;
    const Solution clean = solved(problem);
    for (const double garbage : {kNaN, 60000.0, -kInfinity}) {
      EXPECT_EQ(differences(solved(spoil(problem, garbage)), clean), "") << garbage;
    }
  }
}

// Exact zeros for what is hidden, in either mode.
TEST_P(HiddenKeysOnTensorCores, HaveNoGradients) {
  const int64_t D = GetParam().D;
  for (const FullyMasked mode : {FullyMasked::kZero, FullyMasked::kMean}) {
    kernels::Problem problem = problem_of(GetParam(), false);
    problem.fully_masked = mode;
    const Solution s = solved(problem);
    for (int64_t i = 0; i < kRows * kKeys; ++i) {
      if (is_shown(problem, i / kKeys, i % kKeys)) continue;
      for (int64_t d = 0; d < D; ++d) EXPECT_EQ(s.grad_k[static_cast<size_t>(i * D + d)], 0);
    }
    for (size_t i = 100; i < s.grad_pair.size(); i += kKeys) EXPECT_EQ(s.grad_pair[i], 0);
    for (int64_t i = 0; i < kQueries * D; ++i) EXPECT_EQ(s.grad_q[static_cast<size_t>(i)], 0);
    EXPECT_EQ(s.grad_v[0] == 0, mode == FullyMasked::kZero);
    EXPECT_EQ(s.lse[0], -1e9);
  }
}

// A mask of 0 and -1e9 gives the same, where no row's weights are uniform.
TEST_P(HiddenKeysOnTensorCores, GiveTheBitsOfAnAdditiveMask) {
  if (GetParam().biases.empty() && !GetParam().launch.by_warpgroups)
    GTEST_SKIP() << "scaled before the mask is applied";
  kernels::Problem problem = problem_of(GetParam());
  Solution selected = solved(problem);
  BiasValues& mask = problem.biases.back();
  mask.dtype = DType::kFloat32;
  for (double& value : mask.numbers) value = value != 0 ? 0 : -1e9;
  Solution added = solved(problem);
  for (Solution* solution : {&selected, &added}) solution->drop_signs_of_zeros();
  EXPECT_EQ(differences(selected, added), "");
}

TEST_P(HiddenKeysOnTensorCores, LeaveNaNOfShownOnesWhereItIs) {
  kernels::Problem problem = problem_of(GetParam());
  const int64_t of_key = GetParam().D;
  problem.k[static_cast<size_t>((1 * kKeys + kKeys - 2) * of_key)] = kNaN;  // shown in row 1
  problem.v[static_cast<size_t>((2 * kKeys + 1) * of_key)] = kNaN;          // shown in row 2
  const Solution s = solved(problem);
  const auto is_nan = [&](const Numbers& numbers, int64_t at) { return std::isnan(numbers[static_cast<size_t>(at)]); };
  for (const int64_t n : {1, 2}) {
    EXPECT_TRUE(is_nan(s.out, n * kQueries * of_key)) << n;
    EXPECT_TRUE(is_nan(s.grad_q, n * kQueries * of_key)) << n;
  }
  EXPECT_TRUE(is_nan(s.lse, 1 * kQueries));
  EXPECT_TRUE(is_nan(s.grad_k, (2 * kKeys + 1) * of_key));
  EXPECT_TRUE(is_nan(s.grad_pair, kKeys - 2));
  for (const int64_t n : {0, 3, 4}) EXPECT_FALSE(is_nan(s.out, n * kQueries * of_key)) << n;
}

// NaN in v reaches what sees a key, since zero times NaN is NaN, and rows that see none only where they give the mean.
TEST_P(HiddenKeysOnTensorCores, NaNInValuesIsHiddenFromRowsWithoutKeysAlone) {
  kernels::Problem problem = problem_of(GetParam());
  const Solution clean = solved(problem);
  const auto row = static_cast<int64_t>(problem.v.size()) / kRows;
  std::fill_n(problem.v.begin(), row, kNaN);
  EXPECT_EQ(differences(solved(problem), clean), "");
  problem.v[static_cast<size_t>(row)] = kNaN;  // a hidden key of row 1
  EXPECT_TRUE(std::isnan(solved(problem).out[static_cast<size_t>(kQueries * GetParam().D)]));
}

// A row whose shown keys are at -2e9 themselves is fully masked: hidden keys count in the mean, and have no gradients.
TEST_P(HiddenKeysOnTensorCores, CountWhereShownOnesAreMasked) {
  kernels::Problem problem = problem_of(GetParam());
  if (problem.biases.size() < 2) GTEST_SKIP() << "no pair bias";
  for (const double masks : {-2e9, -kInfinity}) {
    for (const FullyMasked mode : {FullyMasked::kZero, FullyMasked::kMean}) {
      for (int64_t key = 0; key < 3 * kKeys; ++key) problem.bias(BiasKind::kPair)[static_cast<size_t>(key)] = masks;
      problem.fully_masked = mode;
      EXPECT_EQ(check_on_host<bfloat16>(problem, GetParam().launch), "") << masks;
    }
  }
}

TEST_P(HiddenKeysOnTensorCores, GiveTheSameBitsInEveryMode) {
  const std::string_view name = GetParam().name;
  if (name != "by_warps" && name != "by_warpgroups") GTEST_SKIP() << "of one of each kind";
  const kernels::Problem problem = spoil(problem_of(GetParam(), false), kNaN);
  const Solution first = solved(problem);
  for (const simt::Mode& mode : simt::every_mode()) {
    HostLaunch launch = GetParam().launch;
    launch.mode = mode, launch.most_blocks = 1;
    EXPECT_EQ(differences(mma::solved<bfloat16>(problem, launch), first), "");
  }
}

std::vector<Case> every_case() {
  const std::vector<cases::Bias> none, fp32 = {{BiasKind::kPair}},
                                       of_queries = {{BiasKind::kPair, cases::ElementType::kOfQueries}};
  const HostLaunch by_warps{}, by_maps{.mode = {}, .has_tensor_maps = true},
      by_warpgroups{.mode = {}, .by_warpgroups = true};
  return {
      {"by_warps", 32, fp32, by_warps},
      {"by_warps_8", 8, of_queries, by_maps},
      {"by_warps_64", 64, of_queries, by_warps},
      {"by_warps_alone", 32, none, by_maps},
      {"by_warpgroups", 32, of_queries, by_warpgroups},
      {"by_warpgroups_fp32", 32, fp32, by_warpgroups},
      {"by_warpgroups_8", 8, of_queries, by_warpgroups},
      {"by_warpgroups_64", 64, fp32, by_warpgroups},
      {"by_warpgroups_alone", 32, none, by_warpgroups},
  };
}

INSTANTIATE_TEST_SUITE_P(Kernels, HiddenKeysOnTensorCores, testing::ValuesIn(every_case()),
                         [](const auto& tested) { return std::string(tested.param.name); });

// Biases that differ from row to row, in blocks of one row; bools of a byte in a view.
TEST(HiddenKeysOfBools, InBlocksOfOneRow) {
  const cases::EvoformerCase shape{
      .name = "general", .B = 1, .N = 3, .Lq = 70, .Lk = 72, .H = 2, .D = 32, .biases = {{BiasKind::kGeneral}}};
  for (const bool by_warpgroups : {false, true}) {
    const HostLaunch launch{.mode = {}, .by_warpgroups = by_warpgroups};
    kernels::Problem problem = hide(make_problem<bfloat16>(shape), 1);
    problem.wants_grad_pair = false;
    EXPECT_EQ(check_on_host<bfloat16>(problem, launch), "");
    const Solution clean = solved<bfloat16>(problem, launch);
    for (const double garbage : {kNaN, 60000.0, -kInfinity}) {
      EXPECT_EQ(differences(solved<bfloat16>(spoil(problem, garbage), launch), clean), "") << garbage;
    }
  }
}

TEST(HiddenKeysOfBools, AreOtherKernelsBusinessBesideAnotherMask) {
  const kernels::Problem problem =
      make_problem<bfloat16>({.name = "small", .B = 1, .N = 2, .Lq = 20, .Lk = 24, .H = 1, .D = 32});
  EXPECT_FALSE(solve_on_host<bfloat16>(hide(problem, 0)).has_value());
  kernels::Problem twice = problem;
  twice.biases.erase(twice.biases.begin());
  EXPECT_TRUE(solve_on_host<bfloat16>(hide(twice, 0)).has_value());
  EXPECT_FALSE(solve_on_host<bfloat16>(hide(hide(twice, 0), 1)).has_value());
}

}  // namespace
}  // namespace longfold::kernels::cuda::mma
