// Answers that must break the accuracy rule, whoever gives them.
#pragma once

#include <gtest/gtest.h>

#include "tests/kernels/accuracy_rule.h"

namespace longfold::kernels {

inline const cases::EvoformerCase kSmall{.name = "small", .B = 1, .N = 3, .Lq = 70, .Lk = 139, .H = 2, .D = 32};

// The rule must be able to fail: each of these wrong answers has to break it, in the output and in a gradient.
template <class T, class Solve>
void expect_wrong_answers_to_be_rejected(double wrong_scale, const Solve& solve) {
  Problem problem = make_problem<T>(kSmall);
  problem.wants_grad_logits = true;
  const Solution plain = solve_with_reference<T>(problem), exact = solve_with_reference<double>(problem);
  const auto broken = [&](const Solution& solution) {
    std::vector<std::string> names;
    for (const BrokenResult& result : broken_results<T>(problem, solution, plain, exact)) names.push_back(result.name);
    return names;
  };
  const auto expect_rejected = [&](const char* what, const auto& spoil) {
    Problem wrong = problem;
    spoil(wrong);
    const std::vector<std::string> names = broken(solve(wrong));
    const auto has = [&](const char* name) { return std::ranges::find(names, name) != names.end(); };
    EXPECT_TRUE(has("out")) << what;
    EXPECT_TRUE(has("grad_q") || has("grad_k") || has("grad_v")) << what;
  };
  EXPECT_EQ(broken(solve(problem)), std::vector<std::string>{});
  expect_rejected("scale", [&](Problem& wrong) { wrong.scale *= wrong_scale; });
  expect_rejected("dropped pair bias",
                  [](Problem& wrong) { std::ranges::fill(wrong.bias(cases::BiasKind::kPair), 0); });
  expect_rejected("dropped mask bias",
                  [](Problem& wrong) { std::ranges::fill(wrong.bias(cases::BiasKind::kMask), 0); });
  expect_rejected("swapped heads", [](Problem& wrong) {
    Numbers& pair = wrong.bias(cases::BiasKind::kPair);
    std::rotate(pair.begin(), pair.begin() + static_cast<std::ptrdiff_t>(pair.size() / 2), pair.end());
  });
  expect_rejected("missing key block", [](Problem& wrong) {
    for (size_t j = 128; j < 139; ++j) wrong.bias(cases::BiasKind::kMask)[j] = -INFINITY;  // of row n = 0
  });
  for (Numbers Solution::* const result :
       {&Solution::out, &Solution::lse, &Solution::grad_q, &Solution::grad_k, &Solution::grad_v, &Solution::grad_pair,
        &Solution::grad_mask, &Solution::grad_logits}) {
    Solution zeroed = plain;
    std::ranges::fill(zeroed.*result, 0);
    std::vector<std::string> expected;
    for (const auto& [name, values] : zeroed.judged()) {
      if (values == &(zeroed.*result)) expected.push_back(name);
    }
    EXPECT_EQ(expected.size(), 1u);
    EXPECT_EQ(broken(zeroed), expected) << "this alone is zero";
  }
}

}  // namespace longfold::kernels
