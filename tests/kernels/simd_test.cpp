// Runs what is compiled for the instruction set that LONGFOLD_ISA names, or for the best that the CPU has.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "longfold/kernels/isa.h"
#include "tests/kernels/simd_functions.h"

namespace longfold::kernels {
namespace {

using Function = void (*)(const float* from, float* to, int64_t count);

struct SimdFunctions {
  Function exp, log;
};

SimdFunctions selected_functions() {
  switch (selected_isa()) {
#if defined(__x86_64__)
    case Isa::kAvx2:
      return {&exp_avx2, &log_avx2};
    case Isa::kAvx512:
      return {&exp_avx512, &log_avx512};
    case Isa::kAvx512Bf16:
      return {&exp_avx512_bf16, &log_avx512_bf16};
#elif defined(__aarch64__)
    case Isa::kNeon:
      return {&exp_neon, &log_neon};
#endif
    default:
      return {&exp_portable, &log_portable};
  }
}

std::vector<float> apply(Function function, std::vector<float> values) {
  const size_t count = values.size();
  values.resize((count + 15) / 16 * 16, 1.0f);
  std::vector<float> results(values.size());
  function(values.data(), results.data(), static_cast<int64_t>(values.size()));
  results.resize(count);
  return results;
}

// What one more rounding of y costs in e^y, or of a sum y, for each unit of y.
double rounding_per_unit() {
  return selected_isa() == Isa::kPortable ? 0x1p-24 : 0;  // it has no fused multiply-add
}

// Weights are at most e^8 times those at the running maximum, so that 25 is out of reach of any row's sum of them.
TEST(Simd, ExpIsAccurateAndFlushesToZero) {
  std::vector<float> values;
  for (int i = -90 * 4099; i <= 25 * 4099; ++i) values.push_back(static_cast<float>(i) / 4099);
  const std::vector<float> results = apply(selected_functions().exp, values);
  // The polynomial and rounding; and the fp32 number log2 e, which is off by 1.34e-8 of itself.
  const double per_unit = 1.34e-8 + rounding_per_unit();
  double worst = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double x = values[i], exact = std::exp(x);
    if (values[i] < -87.33654f) {
      ASSERT_EQ(results[i], 0.0f) << x;
      continue;
    }
    worst = std::max(worst, std::abs(results[i] - exact) / exact / (2.2e-7 + per_unit * std::abs(x)));
  }
  EXPECT_LE(worst, 1);
  EXPECT_GE(worst, 0.85) << "or the bound is too generous";
}

TEST(Simd, ExpOfWhatIsNoNumberOfItsRange) {
  const Function exp = selected_functions().exp;
  for (const float result : apply(exp, {-87.5f, -1000.0f, -1e30f, -INFINITY})) EXPECT_EQ(result, 0.0f);
  EXPECT_EQ(apply(exp, {0.0f})[0], 1 + 0x1p-23f) << "so a maximum that did not move is not multiplied with it";
  EXPECT_TRUE(std::isnan(apply(exp, {std::nanf("")})[0]));
}

TEST(Simd, LogIsAccurate) {
  std::vector<float> values;
  for (double x = 1; x < std::exp(25.0); x *= 1.00007) values.push_back(static_cast<float>(x));
  const std::vector<float> results = apply(selected_functions().log, values);
  double worst = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double exact = std::log(static_cast<double>(values[i]));
    worst = std::max(worst, std::abs(results[i] - exact) / (1.2e-7 + (0x1p-24 + rounding_per_unit()) * exact));
  }
  EXPECT_LE(worst, 1);
  EXPECT_GE(worst, 0.85) << "or the bound is too generous";
  EXPECT_EQ(apply(selected_functions().log, {1.0f})[0], 0.0f);
}

}  // namespace
}  // namespace longfold::kernels
