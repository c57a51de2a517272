// When a solution of causal attention is accurate: the rule of docs/numerics.md.
#pragma once

#include <cmath>
#include <sstream>
#include <string>

#include "tests/kernels/causal_problem.h"

namespace longfold::kernels {

template <class T>
double epsilon_of(const CausalSolution& exact) {
  return (std::is_same_v<T, bfloat16>  ? 0x1p-9
          : std::is_same_v<T, float16> ? 0x1p-12
                                       : 0x1p-22) +
         0x1p-25 * largest(exact.lse);
}

// At most twice the error of plain loops in the same dtype, plus what the result's rounding, and one rounding of each
// logit, must be allowed to cost. 16-bit types sum delta from a rounded output: so does every kernel that keeps no
// more.
template <class T>
double floor_of(const std::string& name, const CausalProblem& p, const CausalSolution& exact) {
  const auto epsilon = epsilon_of<T>(exact);
  const double grad_weights = largest(p.grad_out) * largest(p.v) * std::sqrt(static_cast<double>(p.shape.D));
  if (name == "log_sum_exp") return 0x1p-22 * (1 + largest(exact.lse));
  if (name == "out") return epsilon * largest(p.v);
  if (name == "grad_v") return epsilon * largest(exact.grad_v);
  return epsilon * grad_weights * std::abs(p.scale) * largest(name == "grad_q" ? p.k : p.q);
}

// What the floor of grad_v lacks where its terms, weights times output gradients, cancel: their size takes another
// solution, so that it is asked for only where the floor alone does not do.
template <class T>
double rest_of_floor(const std::string& name, const CausalProblem& p, const CausalSolution& exact) {
  if (name != "grad_v") return 0;
  CausalProblem sizes = p;
  for (double& number : sizes.grad_out) number = std::abs(number);
  return epsilon_of<T>(exact) * (largest(solve_causal_with_reference<double>(sizes).grad_v) - largest(exact.grad_v));
}

template <class T>
std::string broken_rule(const CausalProblem& p, const CausalSolution& got) {
  if (!got.damage.empty()) return "written " + got.damage;
  const CausalSolution plain = solve_causal_with_reference<T>(p), exact = solve_causal_with_reference<double>(p);
  const auto fast = got.all(), slow = plain.all(), truth = exact.all();
  std::ostringstream message;
  for (size_t i = 0; i < fast.size(); ++i) {
    const std::string& name = fast[i].first;
    double allowed = 2 * error(*slow[i].second, *truth[i].second) + floor_of<T>(name, p, exact);
    const double made = error(*fast[i].second, *truth[i].second);
    if (made > allowed) allowed += rest_of_floor<T>(name, p, exact);
    if (!(made <= allowed)) message << name << ": error " << made << ", allowed " << allowed << "; ";
  }
  return message.str();
}

}  // namespace longfold::kernels
