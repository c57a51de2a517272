// Solves a problem with the kernels or with plain loops, and says whether memory that is nobody's business was touched.
#pragma once

#include "tests/kernels/conditions.h"
#include "tests/kernels/guarded_bytes.h"
#include "tests/kernels/placed_problem.h"

namespace longfold::kernels {

// The names of what differs in its bits.
inline std::string differences(const Solution& a, const Solution& b) {
  std::string names;
  const auto left = a.all(), right = b.all();
  for (size_t i = 0; i < left.size(); ++i) {
    if (!same_bits(*left[i].second, *right[i].second)) names += left[i].first + " ";
  }
  return names;
}

// For T float, bfloat16, float16 and double; in attention_solution.cpp, which takes long to compile.
template <class T>
Solution solve_with_reference(const Problem& p);
template <class T>
Solution solve_with_kernels(const Problem& p, const Conditions& conditions = {});

}  // namespace longfold::kernels
