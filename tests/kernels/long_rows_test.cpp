// Rows so long that the kernels change their ways: past one block, past the weights that a 16-bit backward pass keeps,
// past the sums of grad_k and grad_v that fit in scratch, past the bias slabs that are kept.
#include <gtest/gtest.h>

#include "longfold/kernels/evoformer/tile_size.h"
#include "tests/kernels/accuracy_rule.h"

namespace longfold::kernels {
namespace {

using cases::BiasKind;

cases::EvoformerCase rows_of_length(int64_t Lk, int64_t D, int64_t N = 2, int64_t Lq = 70) {
  cases::EvoformerCase shape{.name = "long", .B = 1, .N = N, .Lq = Lq, .Lk = Lk, .H = 1, .D = D, .biases = {}};
  shape.biases.push_back({BiasKind::kMask});
  shape.biases.push_back({BiasKind::kPair});
  return shape;
}

int64_t keys_summed_at_once(const cases::EvoformerCase& c) {
  return grad_kv_keys({.B = c.B, .N = c.N, .Lq = c.Lq, .Lk = c.Lk, .H = c.H, .D = c.D});
}

template <class T>
void expect_correct(const cases::EvoformerCase& shape, double bias_std = 1) {
  Problem problem = make_problem<T>(shape, bias_std);
  // A peak in the last block makes every earlier sum shrink; hidden keys lie on both sides of a block's end.
  Numbers& mask = problem.bias(BiasKind::kMask);
  mask[static_cast<size_t>(shape.Lk - 1)] = 12;
  for (int64_t j = 60; j < std::min<int64_t>(shape.Lk - 1, 70); ++j) mask[static_cast<size_t>(j)] = -INFINITY;
  EXPECT_EQ(check<T>(problem), "") << shape.Lk;
}

TEST(LongRows, MaximumInTheLastBlock) {
  Problem problem = make_problem<float>(rows_of_length(1000, 32, 1, 5));
  problem.bias(BiasKind::kMask)[999] = 30;
  EXPECT_EQ(check<float>(problem), "");
}

// The mean of ones is one, however many blocks of keys it passes through.
TEST(LongRows, EqualKeysShareEqually) {
  Problem problem =
      make_problem<float>({.name = "long", .B = 1, .N = 1, .Lq = 3, .Lk = 16384, .H = 1, .D = 8, .biases = {}});
  std::fill(problem.q.begin(), problem.q.end(), 0);
  std::fill(problem.v.begin(), problem.v.end(), 1);
  const Solution solution = solve_with_kernels<float>(problem);
  for (const double out : solution.out) EXPECT_NEAR(out, 1, 3e-7);
  for (const double lse : solution.lse) EXPECT_NEAR(lse, std::log(16384.0), 2e-6);
}

// 16-bit types: the weights of a whole row are kept up to here.
TEST(LongRows, AroundWholeRowWeights) {
  for (const int64_t Lk : {kWholeRowKeys - 1, kWholeRowKeys, kWholeRowKeys + 1, kWholeRowKeys + 70}) {
    expect_correct<bfloat16>(rows_of_length(Lk, 16), 5);
    expect_correct<float16>(rows_of_length(Lk, 8, 1), 5);
    expect_correct<float>(rows_of_length(Lk, 8, 1), 5);
  }
}

// Sums of grad_k and grad_v: in one part, in two, in three.
TEST(LongRows, AroundTheSumsOfGradKAndGradV) {
  const int64_t most = keys_summed_at_once(rows_of_length(1 << 20, 128));
  ASSERT_LT(most, 2000);
  for (const int64_t Lk : {most, 2 * most + 30}) {
    const cases::EvoformerCase shape = rows_of_length(Lk, 128);
    EXPECT_EQ(keys_summed_at_once(shape), most) << "or the test is at the wrong place";
    expect_correct<float>(shape);
    expect_correct<bfloat16>(shape);
  }
  expect_correct<float16>(rows_of_length(most + 1, 128, 1));
}

// Parts of grad_k and grad_v while the weights of whole rows are kept.
TEST(LongRows, PartsOfWholeRows) {
  const cases::EvoformerCase shape = rows_of_length(700, 200);
  ASSERT_LT(keys_summed_at_once(shape), 700);
  expect_correct<bfloat16>(shape);
  expect_correct<float16>(shape);
}

// Transposed bias slabs are kept up to here; beyond, blocks of all kinds of biases are made again for each row.
TEST(LongRows, AroundTheSlabs) {
  for (const int64_t Lk : {kSlabKeys - 1, kSlabKeys + 1}) {
    cases::EvoformerCase shape = rows_of_length(Lk, 8);
    shape.biases.push_back({BiasKind::kSharedPair, cases::ElementType::kBFloat16});
    expect_correct<float>(shape);
    expect_correct<bfloat16>(shape);
  }
  cases::EvoformerCase shape = rows_of_length(kSlabKeys + 64, 8, 2, 5);
  shape.biases = {{BiasKind::kMask}, {BiasKind::kGeneral}, {BiasKind::kPair}, {BiasKind::kSharedPair}};
  expect_correct<float>(shape);
}

// Wide and long enough for every limit at once.
TEST(LongRows, BeyondEveryLimit) {
  const cases::EvoformerCase shape = rows_of_length(kSlabKeys + 100, 64, 1, 66);
  ASSERT_LT(keys_summed_at_once(shape), shape.Lk);
  expect_correct<float>(shape);
  expect_correct<bfloat16>(shape);
}

// The mean of v over a long, fully masked row, with its gradients.
TEST(LongRows, FullyMasked) {
  for (const FullyMasked mode : {FullyMasked::kZero, FullyMasked::kMean}) {
    for (const double hidden : {-1e9, -double{INFINITY}}) {
      Problem problem = make_problem<bfloat16>(rows_of_length(1100, 16));
      Numbers& mask = problem.bias(BiasKind::kMask);
      std::fill(mask.begin(), mask.begin() + 1100, hidden);  // row n = 0
      problem.fully_masked = mode;
      EXPECT_EQ(check<bfloat16>(problem), "") << hidden;
    }
  }
}

// The same bits for any threads, cut and chunk of N where weights are computed twice and sums pass in parts.
template <class T>
void expect_same_bits() {
  const Problem problem = make_problem<T>(rows_of_length(kWholeRowKeys + 80, 128, 3));
  ASSERT_LT(keys_summed_at_once(problem.shape), problem.shape.Lk);
  const Solution whole = solve_with_kernels<T>(problem);
  EXPECT_EQ(differences(whole, solve_with_kernels<T>(problem, {.num_threads = 3})), "");
  EXPECT_EQ(differences(whole, solve_with_kernels<T>(problem, {.cut_for_threads = 7, .items_per_call = 100})), "");
  Solution last = solve_with_kernels<T>(rows_of(problem, 2, 3)), expected = whole;
  for (Numbers* numbers : {&expected.out, &expected.lse, &expected.lse_correction, &expected.grad_q, &expected.grad_k,
                           &expected.grad_v, &expected.grad_mask}) {
    *numbers = rows_of(*numbers, 1, 3, 2, 3);
  }
  last.grad_pair = expected.grad_pair;
  EXPECT_EQ(differences(last, expected), "");
}

TEST(LongRows, SameBitsInFloat32) {
  expect_same_bits<float>();
}
TEST(LongRows, SameBitsInBFloat16) {
  expect_same_bits<bfloat16>();
}
TEST(LongRows, SameBitsInFloat16) {
  expect_same_bits<float16>();
}

}  // namespace
}  // namespace longfold::kernels
