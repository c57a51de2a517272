// The shared case list through the CUDA kernels, by the accuracy rule; and what they refuse.
#include <gtest/gtest.h>

#include "tests/cuda/cuda_solution.h"
#include "tests/kernels/wrong_answers.h"

namespace longfold::kernels::cuda {
namespace {

using cases::BiasKind;

class EvoformerAttention : public testing::TestWithParam<cases::EvoformerCase> {};

template <class T>
void expect_correct(const cases::EvoformerCase& shape) {
  for (const double bias_std : {1.0, 20.0, 50.0}) {
    EXPECT_EQ(check_on_cuda<T>(make_problem<T>(shape, bias_std)), "") << "biases of " << bias_std;
  }
  Problem problem = make_problem<T>(shape);
  problem.wants_grad_logits = true;
  EXPECT_EQ(check_on_cuda<T>(problem), "") << "with logit gradients";
}

TEST_P(EvoformerAttention, Float32) {
  expect_correct<float>(GetParam());
}
TEST_P(EvoformerAttention, BFloat16) {
  expect_correct<bfloat16>(GetParam());
}
TEST_P(EvoformerAttention, Float16) {
  expect_correct<float16>(GetParam());
}

// The rule's floors are those of fp32: fp64 is held to its own digits.
TEST_P(EvoformerAttention, Float64) {
  Problem problem = make_problem<double>(GetParam());
  problem.wants_grad_logits = true;
  const Solution got = solve_on_cuda<double>(problem), exact = solve_with_reference<double>(problem);
  EXPECT_EQ(got.damage, "");
  const auto all = got.judged(), expected = exact.judged();
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_LE(error(*all[i].second, *expected[i].second), 1e-13 * (1 + largest(*expected[i].second))) << all[i].first;
  }
}

TEST_P(EvoformerAttention, ShiftedLogits) {
  Problem shifted = make_problem<float>(GetParam());
  if (shifted.biases.empty()) return;
  for (double& bias : shifted.biases[0].numbers) bias -= 1e4;
  round_to(shifted.biases[0].dtype, shifted.biases[0].numbers);
  EXPECT_EQ(check_on_cuda<float>(shifted), "") << "all logits near -1e4";
}

INSTANTIATE_TEST_SUITE_P(Shapes, EvoformerAttention, testing::ValuesIn(cases::evoformer_cases()),
                         [](const auto& tested) { return std::string(tested.param.name); });

class AttentionInUnits : public testing::TestWithParam<cases::EvoformerCase> {};
TEST_P(AttentionInUnits, BFloat16) {
  expect_correct<bfloat16>(GetParam());
}
TEST_P(AttentionInUnits, Float16) {
  expect_correct<float16>(GetParam());
}
INSTANTIATE_TEST_SUITE_P(Shapes, AttentionInUnits, testing::ValuesIn(cases::evoformer_cases_in_units()),
                         [](const auto& tested) { return std::string(tested.param.name); });

// For the tiled kernels, and with a head dim that the plain ones alone have.
std::vector<cases::EvoformerCase> small_shapes() {
  cases::EvoformerCase plain = kSmall;
  plain.D = 5;
  return {kSmall, plain};
}

TEST(EvoformerAttention, MaskedKeysWeighNothing) {
  for (const cases::EvoformerCase& shape : small_shapes()) {
    Problem problem = make_problem<float>(shape);
    for (size_t j = 1; j < problem.bias(BiasKind::kMask).size(); j += 2) {
      problem.bias(BiasKind::kMask)[j] = j % 4 == 1 ? -INFINITY : -1e9;
    }
    EXPECT_EQ(check_on_cuda<float>(problem), "") << shape.D;
  }
}

// In one row n, all keys of the first block or tile hidden, and all of the last: no NaN from -inf less -inf.
TEST(EvoformerAttention, BlocksOfMaskedKeys) {
  for (const cases::EvoformerCase& shape : small_shapes()) {
    for (const double hidden : {-1e9, -double{INFINITY}}) {
      Problem problem = make_problem<float>(shape);
      for (size_t j = 0; j < 139; ++j) {
        if (j < 70 || j > 100) problem.bias(BiasKind::kMask)[j] = hidden;
      }
      EXPECT_EQ(check_on_cuda<float>(problem), "") << hidden << " " << shape.D;
    }
  }
}

template <class T>
void expect_fully_masked_rows(const cases::EvoformerCase& shape, double hidden, FullyMasked mode) {
  Problem problem = make_problem<T>(shape);
  for (size_t j = 0; j < static_cast<size_t>(shape.Lk); ++j) problem.bias(BiasKind::kMask)[j] = hidden;  // row n = 0
  problem.fully_masked = mode;
  EXPECT_EQ(check_on_cuda<T>(problem), "");
  if (mode == FullyMasked::kMean) return;
  const Solution solution = solve_on_cuda<T>(problem);
  const auto row = static_cast<std::ptrdiff_t>(shape.Lq * shape.H * shape.D);
  EXPECT_EQ(largest(Numbers(solution.out.begin(), solution.out.begin() + row)), 0.0);
  EXPECT_EQ(largest(Numbers(solution.grad_q.begin(), solution.grad_q.begin() + row)), 0.0);
}

TEST(EvoformerAttention, FullyMaskedRows) {
  for (const cases::EvoformerCase& shape : small_shapes()) {
    for (const double hidden : {-1e9, -double{std::numeric_limits<float>::max()}, -double{INFINITY}}) {
      for (const FullyMasked mode : {FullyMasked::kZero, FullyMasked::kMean}) {
        SCOPED_TRACE(testing::Message() << hidden << (mode == FullyMasked::kZero ? " zero " : " mean ") << shape.D);
        expect_fully_masked_rows<float>(shape, hidden, mode);
        expect_fully_masked_rows<bfloat16>(shape, hidden, mode);
      }
    }
  }
}

TEST(EvoformerAttention, TheRuleRejectsWrongAnswers) {
  expect_wrong_answers_to_be_rejected<float>(1.001, solve_on_cuda<float>);
  expect_wrong_answers_to_be_rejected<bfloat16>(1.02, solve_on_cuda<bfloat16>);
  expect_wrong_answers_to_be_rejected<float16>(1.005, solve_on_cuda<float16>);
}

TEST(EvoformerAttention, GradientsThatAreNotWanted) {
  Problem problem = make_problem<float>(kSmall);
  const Solution all = solve_on_cuda<float>(problem);
  problem.wants_grad_pair = problem.wants_grad_mask = false;
  EXPECT_EQ(differences(solve_on_cuda<float>(problem), all), "grad_pair grad_mask ");
  problem.has_grad_lse = false;
  EXPECT_EQ(check_on_cuda<float>(problem), "");
}

// A gradient of size 1 along B and H, or either, is the sum over these; one with a rest keeps the digits of many calls.
TEST(EvoformerAttention, SharedPairGradient) {
  const cases::EvoformerCase shape{.name = "shared", .B = 3, .N = 2, .Lq = 9, .Lk = 11, .H = 4, .D = 8};
  const Problem problem = make_problem<float>(shape);
  const Solution apart = solve_on_cuda<float>(problem);
  for (const auto& [batches, heads] : {std::pair<int64_t, int64_t>{1, 4}, {3, 1}, {1, 1}}) {
    const TestStream stream;
    DeviceProblem<float> device(problem);
    run_forward(device.forward_args(), {}, stream.get());
    BackwardArgs<float> args = device.backward_args();
    const int64_t plane = shape.Lq * shape.Lk, count = batches * heads * plane;
    const DeviceBytes sum(count * 4), rest(count * 4), workspace(backward_workspace_bytes(args));
    require(cudaMemset(rest.span().data(), 0, rest.span().size()));
    require(cudaDeviceSynchronize());  // the stream waits for no other
    const std::array<int64_t, 4> sizes{batches, heads, shape.Lq, shape.Lk}, strides{heads * plane, plane, shape.Lk, 1};
    args.grad_pair = {reinterpret_cast<float*>(sum.span().data()), sizes, strides};
    run_backward(args, workspace.span(), stream.get());
    args.grad_pair_rest = {reinterpret_cast<float*>(rest.span().data()), sizes, strides};
    args.add_to_grad_pair = true;
    run_backward(args, workspace.span(), stream.get());
    stream.wait();
    std::vector<float> got(static_cast<size_t>(count)), left(got.size());
    require(cudaMemcpy(got.data(), sum.span().data(), sum.span().size(), cudaMemcpyDeviceToHost));
    require(cudaMemcpy(left.data(), rest.span().data(), rest.span().size(), cudaMemcpyDeviceToHost));
    Numbers expected(got.size()), found(got.begin(), got.end());
    for (int64_t b = 0; b < shape.B; ++b) {
      for (int64_t h = 0; h < shape.H; ++h) {
        for (int64_t i = 0; i < plane; ++i) {
          const int64_t to = ((batches == 1 ? 0 : b) * heads + (heads == 1 ? 0 : h)) * plane + i;
          expected[static_cast<size_t>(to)] += 2 * apart.grad_pair[static_cast<size_t>((b * shape.H + h) * plane + i)];
        }
      }
    }
    for (size_t i = 0; i < found.size(); ++i) found[i] += double{left[i]};
    EXPECT_LE(error(found, expected), 0x1p-22 * largest(expected)) << batches << " batches, " << heads << " heads";
  }
}

TEST(EvoformerAttention, TooManyBiasesAreRefusedByName) {
  Problem problem = make_problem<float>({.name = "small", .B = 1, .N = 1, .Lq = 2, .Lk = 2, .H = 1, .D = 4});
  while (problem.biases.size() < kMostBiases) problem.biases.push_back(problem.biases[0]);
  EXPECT_EQ(check_on_cuda<float>(problem), "") << "16 of them";
  problem.biases.push_back(problem.biases[0]);
  try {
    (void)solve_on_cuda<float>(problem);
    FAIL() << "17 biases were taken";
  } catch (const std::invalid_argument& error) {
    EXPECT_STREQ(error.what(),
                 "[evoformer_attention] expected at most 16 biases on CUDA, got 17; add up those of the same shape");
  }
}

TEST(EvoformerAttention, SaysWhatItRunsOn) {
  EXPECT_TRUE(engine_status().starts_with("found: built with CUDA ")) << engine_status();
  std::printf("%s\n", engine_status().c_str());
}

}  // namespace
}  // namespace longfold::kernels::cuda
