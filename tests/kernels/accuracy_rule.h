// The rule of docs/numerics.md: at most twice the error that plain loops make in the same dtype, plus a computed floor;
// both errors against fp64.
#pragma once

#include "tests/kernels/attention_solution.h"

namespace longfold::kernels {

// Of rows that are not fully masked: what their logits are about as large as.
inline double largest_logit(const Numbers& lse) {
  double worst = 0;
  for (const double value : lse) {
    if (value > kFullyMaskedLogit && std::isfinite(value)) worst = std::max(worst, std::abs(value));
  }
  return worst;
}

// In accuracy_rule.cpp, for T float, bfloat16 and float16: what a result may be wrong by however well plain loops do.
template <class T>
double floor_of(const std::string& name, const Problem& p, const Solution& exact);

struct BrokenResult {
  std::string name;
  double error, allowed;
};

// The results that break the rule, each judged by itself.
template <class T>
std::vector<BrokenResult> broken_results(const Problem& problem, const Solution& got, const Solution& plain,
                                         const Solution& exact);

// What breaks the rule, or what was touched that should not be; empty if all is well.
template <class T>
std::string broken_rule(const Problem& problem, const Solution& got, const Solution& plain, const Solution& exact);

template <class T>
std::string check(const Problem& problem, const Conditions& conditions = {}) {
  return broken_rule<T>(problem, solve_with_kernels<T>(problem, conditions), solve_with_reference<T>(problem),
                        solve_with_reference<double>(problem));
}

}  // namespace longfold::kernels
