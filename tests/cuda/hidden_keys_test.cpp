// A bias of bools hides keys, whatever q, k and the other biases hold there.
#include "tests/kernels/hidden_keys.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/cuda/cuda_solution.h"

namespace longfold::kernels::cuda {
namespace {

template <class T>
void expect_hidden() {
  for (const cases::EvoformerCase& shape : hiding_shapes()) {
    for (const auto& [mode, row] :
         {std::pair(FullyMasked::kZero, int64_t{0}), std::pair(FullyMasked::kMean, int64_t{0}),
          std::pair(FullyMasked::kMean, shape.N - 1)}) {
      Problem problem = hide(make_problem<T>(shape), row);
      problem.fully_masked = mode;
      problem.wants_grad_logits = shape.biases.size() == 3;
      EXPECT_EQ(check_on_cuda<T>(problem), "") << shape.name;
      const Solution clean = solve_on_cuda<T>(problem);
      for (const double garbage : {std::nan(""), 60000.0, -std::numeric_limits<double>::infinity()}) {
        EXPECT_EQ(differences(clean, solve_on_cuda<T>(spoil(problem, garbage))), "") << shape.name << " " << garbage;
      }
    }
  }
}

TEST(HiddenKeys, HoldWhatTheyLikeInFloat32) {
  expect_hidden<float>();
}
TEST(HiddenKeys, HoldWhatTheyLikeInBFloat16) {
  expect_hidden<bfloat16>();
}
TEST(HiddenKeys, HoldWhatTheyLikeInFloat16) {
  expect_hidden<float16>();
}

// A row whose shown keys are at -1e9 themselves is fully masked: hidden keys count in the mean, and have no gradients.
TEST(HiddenKeys, CountWhereShownOnesAreMasked) {
  Problem problem = hide(make_problem<float>({.name = "row", .B = 1, .N = 3, .Lq = 66, .Lk = 130, .H = 2, .D = 16}), 2);
  problem.fully_masked = FullyMasked::kMean;
  for (size_t key = 0; key < 130; ++key) problem.bias(cases::BiasKind::kMask)[key] = -1e9;
  EXPECT_EQ(check_on_cuda<float>(problem), "");
}

// Rows that see no key give zero whatever v holds, and no other row notices.
TEST(HiddenKeys, RowsWithoutKeysAreZeroWhateverTheyHold) {
  Problem problem = hide(make_problem<float>(hiding_shapes()[1]), 3);
  const Solution clean = solve_on_cuda<float>(problem);
  const size_t row = problem.v.size() / 4;  // of four rows the last shows no key
  std::fill(problem.v.end() - static_cast<int64_t>(row), problem.v.end(), std::nan(""));
  EXPECT_EQ(differences(clean, solve_on_cuda<float>(problem)), "");
}

}  // namespace
}  // namespace longfold::kernels::cuda
