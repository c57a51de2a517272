// A bias of bools hides keys: whatever q, k and the other biases hold there, NaN included, changes no bit of a result.
#include <gtest/gtest.h>

#include <limits>

#include "tests/kernels/accuracy_rule.h"
#include "tests/kernels/hidden_keys.h"

namespace longfold::kernels {
namespace {

using cases::BiasKind;
using cases::EvoformerCase;

template <class T>
void expect_hidden() {
  for (const EvoformerCase& shape : hiding_shapes()) {
    for (const auto& [mode, row] :
         {std::pair(FullyMasked::kZero, int64_t{0}), std::pair(FullyMasked::kMean, int64_t{0}),
          std::pair(FullyMasked::kMean, shape.N - 1)}) {
      Problem problem = hide(make_problem<T>(shape), row);
      problem.fully_masked = mode;
      problem.wants_grad_logits = shape.biases.size() == 3;
      EXPECT_EQ(check<T>(problem), "") << shape.name;
      const Solution clean = solve_with_kernels<T>(problem);
      for (const double garbage : {std::nan(""), 60000.0, -std::numeric_limits<double>::infinity()}) {
        const Problem spoilt = spoil(problem, garbage);
        EXPECT_EQ(differences(clean, solve_with_kernels<T>(spoilt)), "") << shape.name << " " << garbage;
        EXPECT_EQ(differences(solve_with_reference<double>(problem), solve_with_reference<double>(spoilt)), "");
      }
    }
  }
}

TEST(HiddenKeys, HoldWhatTheyLike) {
  expect_hidden<float>();
  expect_hidden<bfloat16>();
  expect_hidden<float16>();
}

// Nothing flows to k and biases of hidden keys, nor to queries that see none, in either mode.
template <class T>
void expect_no_gradients() {
  const EvoformerCase shape{.name = "row", .B = 1, .N = 2, .Lq = 66, .Lk = 70, .H = 1, .D = 16};
  for (const FullyMasked mode : {FullyMasked::kZero, FullyMasked::kMean}) {
    Problem problem = hide(make_problem<T>(shape), 1);
    problem.fully_masked = mode;
    const Solution s = solve_with_kernels<T>(problem);
    const int64_t N = shape.N, Lq = shape.Lq, Lk = shape.Lk, D = shape.D;
    for (int64_t n = 0; n < N; ++n) {
      for (int64_t key = 0; key < Lk; ++key) {
        if (is_shown(problem, 0, n, key)) continue;
        EXPECT_EQ(s.grad_mask[static_cast<size_t>(n * Lk + key)], 0);
        for (int64_t d = 0; d < D; ++d) EXPECT_EQ(s.grad_k[static_cast<size_t>((n * Lk + key) * D + d)], 0);
        // Of the two rows the first alone has keys to show.
        const bool in_no_row = !is_shown(problem, 0, 0, key);
        for (int64_t i = 0; in_no_row && i < Lq; ++i) EXPECT_EQ(s.grad_pair[static_cast<size_t>(i * Lk + key)], 0);
      }
    }
    for (int64_t i = Lq * D; i < 2 * Lq * D; ++i) EXPECT_EQ(s.grad_q[static_cast<size_t>(i)], 0);
    const double of_v = s.grad_v[static_cast<size_t>(Lk * D)];
    EXPECT_EQ(of_v == 0, mode == FullyMasked::kZero);
  }
}

TEST(HiddenKeys, HaveNoGradients) {
  expect_no_gradients<float>();
  expect_no_gradients<bfloat16>();
  expect_no_gradients<float16>();
}

// A row whose shown keys are at -1e9 themselves is fully masked: hidden keys count in the mean, and have no gradients.
template <class T>
void expect_the_mean_of_all_keys() {
  Problem problem = hide(make_problem<T>({.name = "row", .B = 1, .N = 3, .Lq = 66, .Lk = 130, .H = 2, .D = 16}), 2);
  problem.fully_masked = FullyMasked::kMean;
  for (int64_t key = 0; key < problem.shape.Lk; ++key) {
    problem.bias(BiasKind::kMask)[static_cast<size_t>(key)] = -1e9;
  }
  EXPECT_EQ(check<T>(problem), "");
}

TEST(HiddenKeys, CountWhereShownOnesAreMasked) {
  expect_the_mean_of_all_keys<float>();
  expect_the_mean_of_all_keys<bfloat16>();
  expect_the_mean_of_all_keys<float16>();
}

// Rows of length 0 give zero whatever v holds, and no other row notices.
TEST(HiddenKeys, RowsWithoutKeysAreZeroWhateverTheyHold) {
  for (const FullyMasked mode : {FullyMasked::kZero, FullyMasked::kMean}) {
    Problem problem = hide(make_problem<float>(hiding_shapes()[1]), 3);
    problem.fully_masked = mode;
    const Solution clean = solve_with_kernels<float>(problem);
    const size_t row = problem.v.size() / 4;  // of four rows the last shows no key
    std::fill(problem.v.end() - static_cast<int64_t>(row), problem.v.end(), std::nan(""));
    Solution spoilt = solve_with_kernels<float>(problem);
    if (mode == FullyMasked::kMean) {
      EXPECT_TRUE(std::isnan(spoilt.out.back()));
      spoilt.out = clean.out;
    }
    EXPECT_EQ(differences(clean, spoilt), "");
  }
}

}  // namespace
}  // namespace longfold::kernels
