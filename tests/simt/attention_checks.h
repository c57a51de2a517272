// What both kinds of kernels on tensor cores must do, those of warps and those by products of warpgroups; `launch` says
// which.
#pragma once

#include <gtest/gtest.h>

#include "tests/kernels/accuracy_rule.h"
#include "tests/simt/every_mode.h"
#include "tests/simt/host_solution.h"

namespace longfold::kernels::cuda::mma {

using cases::BiasKind;

template <class T>
Solution solved(const kernels::Problem& problem, const HostLaunch& launch) {
  return solve_on_host<T>(problem, launch).value();
}

template <class T>
std::string check_on_host(const kernels::Problem& problem, const HostLaunch& launch) {
  return broken_rule<T>(problem, solved<T>(problem, launch), solve_with_reference<T>(problem),
                        solve_with_reference<double>(problem));
}

inline cases::EvoformerCase case_named(std::string_view name) {
  for (const cases::EvoformerCase& shape : cases::evoformer_cases()) {
    if (shape.name == name) return shape;
  }
  throw std::invalid_argument("no such case");
}

// By the accuracy rule, and the same bits by the other launch.
template <class T>
void expect_correct(const cases::EvoformerCase& shape, const HostLaunch& launch, const HostLaunch& other) {
  const kernels::Problem problem = make_problem<T>(shape);
  const std::optional<Solution> solution = solve_on_host<T>(problem, launch);
  if (!solution) GTEST_SKIP() << "other kernels' business, or not built";
  EXPECT_EQ(broken_rule<T>(problem, *solution, solve_with_reference<T>(problem), solve_with_reference<double>(problem)),
            "");
  EXPECT_EQ(differences(solved<T>(problem, other), *solution), "") << "in another order";
}

inline void expect_same_bits_in_every_mode(const cases::EvoformerCase& shape, const HostLaunch& given) {
  const kernels::Problem problem = make_problem<bfloat16>(shape);
  const std::optional<Solution> first = solve_on_host<bfloat16>(problem, given);
  if (!first) GTEST_SKIP() << "not built";
  bool maps = false;
  for (const simt::Mode& mode : simt::every_mode()) {
    maps = !maps;
    HostLaunch launch = given;
    launch.mode = mode, launch.most_blocks = maps ? 1u : 4u, launch.has_tensor_maps = maps;
    EXPECT_EQ(differences(solved<bfloat16>(problem, launch), *first), "");
  }
}

inline void expect_to_bear_large_biases(const cases::EvoformerCase& shape, const HostLaunch& launch) {
  for (const double bias_std : {20.0, 50.0}) {
    EXPECT_EQ(check_on_host<bfloat16>(make_problem<bfloat16>(shape, bias_std), launch), "") << bias_std;
  }
  kernels::Problem shifted = make_problem<bfloat16>(shape);
  for (double& bias : shifted.biases[0].numbers) bias -= 1e4;
  round_to(shifted.biases[0].dtype, shifted.biases[0].numbers);
  EXPECT_EQ(check_on_host<bfloat16>(shifted, launch), "") << "all logits near -1e4";
}

// The bits of a row, whatever N is, also where the keys of a bias are no whole units of 16 bytes.
template <class T>
void expect_rows_alone_to_be_the_same(cases::EvoformerCase shape, const HostLaunch& launch) {
  using enum cases::ElementType;
  for (const cases::Bias& bias : {cases::Bias{BiasKind::kPair, kOfQueries}, {BiasKind::kGeneral, kOfQueries}}) {
    for (const int64_t keys : {136, 131}) {
      shape.Lk = keys, shape.biases = {{BiasKind::kMask}, bias};
      const kernels::Problem problem = make_problem<T>(shape);
      const Solution whole = solved<T>(problem, launch);
      for (int64_t n = 0; n < shape.N; ++n) {
        Solution part = solved<T>(rows_of(problem, n, n + 1), launch);
        part.grad_pair = whole.grad_pair;
        EXPECT_EQ(differences(part, whole.rows(shape.B, shape.N, n, n + 1)), "") << "row " << n << ", keys " << keys;
      }
    }
  }
}

// Logits far apart, of which each row has some at 1e4: exponents are small differences of large numbers. No result may
// be further off than so many times what plain loops are.
template <class T>
void expect_to_bear_large_logits(const cases::EvoformerCase& shape, HostLaunch launch, double times) {
  kernels::Problem problem = make_problem<T>(shape);
  BiasValues& pair = problem.biases.back();
  for (size_t i = 0; i < pair.numbers.size(); ++i) pair.numbers[i] += 1e4 * (static_cast<double>(i * 7 % 5 % 3) - 1);
  round_to(pair.dtype, pair.numbers);
  const Solution plain = solve_with_reference<T>(problem), exact = solve_with_reference<double>(problem);
  for (const simt::Sums sums : {simt::Sums::kExact, simt::Sums::kCut}) {
    launch.mode.sums = sums;
    const Solution solution = solved<T>(problem, launch);
    const auto got = solution.judged(), by_loops = plain.judged(), truth = exact.judged();
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_LE(error(*got[i].second, *truth[i].second), times * error(*by_loops[i].second, *truth[i].second))
          << shape.name << " " << got[i].first << (sums == simt::Sums::kCut ? " cut" : "");
    }
  }
}

inline void expect_masked_keys_to_weigh_nothing(const cases::EvoformerCase& shape, const HostLaunch& launch) {
  for (const double hidden : {-1e9, -double{INFINITY}}) {
    kernels::Problem problem = make_problem<bfloat16>(shape);
    Numbers& mask = problem.bias(BiasKind::kMask);
    for (size_t j = 0; j < mask.size(); ++j)
      mask[j] = j % 3 == 1 || (j > 40 && j < static_cast<size_t>(shape.Lk)) ? hidden : 0;
    EXPECT_EQ(check_on_host<bfloat16>(problem, launch), "") << hidden;
  }
}

// A row whose first tile of keys is hidden whole, and one that shows no others.
inline void expect_to_bear_hidden_tiles(const cases::EvoformerCase& shape, const HostLaunch& launch) {
  for (const double hidden : {-1e9, -double{INFINITY}}) {
    kernels::Problem problem = make_problem<bfloat16>(shape);
    Numbers& mask = problem.bias(BiasKind::kMask);
    for (size_t j = 0; j < mask.size(); ++j) {
      const size_t row = j / static_cast<size_t>(shape.Lk), key = j % static_cast<size_t>(shape.Lk);
      mask[j] = (row == 0 && key < 70) || (row == 1 && key >= 64) ? hidden : 0;
    }
    EXPECT_EQ(check_on_host<bfloat16>(problem, launch), "") << hidden;
  }
}

inline void expect_to_bear_fully_masked_rows(const cases::EvoformerCase& shape, const HostLaunch& launch) {
  for (const double hidden : {-1e9, -double{INFINITY}}) {
    for (const FullyMasked mode : {FullyMasked::kZero, FullyMasked::kMean}) {
      kernels::Problem problem = make_problem<bfloat16>(shape);
      for (size_t j = 0; j < static_cast<size_t>(shape.Lk); ++j) problem.bias(BiasKind::kMask)[j] = hidden;
      problem.fully_masked = mode;
      EXPECT_EQ(check_on_host<bfloat16>(problem, launch), "")
          << hidden << (mode == FullyMasked::kZero ? " zero" : " mean");
    }
  }
}

// Queries all of whose pair biases are -inf, whatever the mask says.
inline void expect_to_bear_queries_without_keys(const cases::EvoformerCase& shape, const HostLaunch& launch) {
  for (const FullyMasked mode : {FullyMasked::kZero, FullyMasked::kMean}) {
    kernels::Problem problem = make_problem<bfloat16>(shape);
    std::fill_n(problem.bias(BiasKind::kPair).begin(), 3 * shape.Lk, -double{INFINITY});
    problem.fully_masked = mode;
    EXPECT_EQ(check_on_host<bfloat16>(problem, launch), "") << (mode == FullyMasked::kZero ? "zero" : "mean");
  }
}

// Alone, so that no other row's gradients are the scale that errors are held to; and of a shape with few keys, so that
// the many of a tile that are not there would show.
inline void expect_to_bear_that_all_is_masked(const cases::EvoformerCase& shape, const HostLaunch& launch) {
  for (const FullyMasked mode : {FullyMasked::kZero, FullyMasked::kMean}) {
    kernels::Problem problem = make_problem<bfloat16>(shape);
    for (double& mask : problem.bias(BiasKind::kMask)) mask = -1e9;
    problem.fully_masked = mode;
    EXPECT_EQ(check_on_host<bfloat16>(problem, launch), "") << (mode == FullyMasked::kZero ? "zero" : "mean");
  }
}

}  // namespace longfold::kernels::cuda::mma
