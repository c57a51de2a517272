// A bias of bools hides keys, whatever q, k and the other biases hold there.
#include "tests/kernels/hidden_keys.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/cuda/cuda_solution.h"

namespace longfold::kernels::cuda {
namespace {

// Those of the kernels on tensor cores, which take no second mask: keys in whole units of 16 bytes, and not.
std::vector<cases::EvoformerCase> shapes_for_tensor_cores() {
  const std::vector<cases::Bias> none, fp32 = {{cases::BiasKind::kPair}},
                                       of_queries = {{cases::BiasKind::kPair, cases::ElementType::kOfQueries}};
  std::vector<cases::EvoformerCase> shapes;
  const auto add = [&](const char* name, int64_t N, int64_t Lk, int64_t D, std::vector<cases::Bias> biases) {
    shapes.push_back({name, 1, N, 70, Lk, 2, D, std::move(biases)});
  };
  for (const int64_t D : {8, 32, 64, 128}) {
    add("in_units", 4, 136, D, of_queries);
    add("in_units_fp32", 4, 136, D, fp32);
    add("in_units_alone", 4, 200, D, none);
    add("by_elements", 4, 131, D, of_queries);
    add("many_tiles", 7, 520, D, of_queries);
    add("one_row", 1, 136, D, fp32);
  }
  return shapes;
}

template <class T>
void expect_hidden(const std::vector<cases::EvoformerCase>& shapes = hiding_shapes()) {
  for (const cases::EvoformerCase& shape : shapes) {
    for (const auto& [mode, row] :
         {std::pair(FullyMasked::kZero, int64_t{0}), std::pair(FullyMasked::kMean, int64_t{0}),
          std::pair(FullyMasked::kMean, shape.N - 1)}) {
      Problem problem = hide(make_problem<T>(shape), row);
      problem.fully_masked = mode;
      problem.wants_grad_logits = shape.biases.size() == 3;
      EXPECT_EQ(check_on_cuda<T>(problem), "") << shape.name << " " << shape.D;
      const Solution clean = solve_on_cuda<T>(problem);
      for (const double garbage : {std::nan(""), 60000.0, -std::numeric_limits<double>::infinity()}) {
        EXPECT_EQ(differences(clean, solve_on_cuda<T>(spoil(problem, garbage))), "")
            << shape.name << " " << shape.D << " " << garbage;
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
TEST(HiddenKeys, HoldWhatTheyLikeOnTensorCores) {
  expect_hidden<bfloat16>(shapes_for_tensor_cores());
  expect_hidden<float16>(shapes_for_tensor_cores());
}

// A row whose shown keys are at -1e9 themselves is fully masked: hidden keys count in the mean, and have no gradients.
TEST(HiddenKeys, CountWhereShownOnesAreMasked) {
  Problem problem = hide(make_problem<float>({.name = "row", .B = 1, .N = 3, .Lq = 66, .Lk = 130, .H = 2, .D = 16}), 2);
  problem.fully_masked = FullyMasked::kMean;
  for (size_t key = 0; key < 130; ++key) problem.bias(cases::BiasKind::kMask)[key] = -1e9;
  EXPECT_EQ(check_on_cuda<float>(problem), "");
}

// Rows that see no key give zero whatever v holds, and no other row notices.
template <class T>
void expect_zero_rows(const cases::EvoformerCase& shape) {
  Problem problem = hide(make_problem<T>(shape), 3);
  const Solution clean = solve_on_cuda<T>(problem);
  const size_t row = problem.v.size() / 4;  // of four rows the last shows no key
  std::fill(problem.v.end() - static_cast<int64_t>(row), problem.v.end(), std::nan(""));
  EXPECT_EQ(differences(clean, solve_on_cuda<T>(problem)), "") << shape.name << " " << shape.D;
}

TEST(HiddenKeys, RowsWithoutKeysAreZeroWhateverTheyHold) {
  expect_zero_rows<float>(hiding_shapes()[1]);
  for (const cases::EvoformerCase& shape : shapes_for_tensor_cores()) {
    if (shape.N == 4) expect_zero_rows<bfloat16>(shape);
  }
}

// The same bits as with a mask that adds -1e9, where all is finite: by the same kernels.
TEST(HiddenKeys, GiveTheBitsOfAnAdditiveMask) {
  for (const cases::EvoformerCase& shape : shapes_for_tensor_cores()) {
    if (shape.biases.empty()) continue;
    Problem problem = hide(make_problem<bfloat16>(shape), 0);
    Solution selected = solve_on_cuda<bfloat16>(problem);
    BiasValues& mask = problem.biases.back();
    mask.dtype = DType::kFloat32;
    for (double& value : mask.numbers) value = value != 0 ? 0 : -1e9;
    Solution added = solve_on_cuda<bfloat16>(problem);
    for (Solution* solution : {&selected, &added}) solution->drop_signs_of_zeros();
    EXPECT_EQ(differences(selected, added), "") << shape.name << " " << shape.D;
  }
}

}  // namespace
}  // namespace longfold::kernels::cuda
