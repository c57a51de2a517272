// Solves a problem with the kernels or with plain loops, and says whether memory that is nobody's business was touched.
#pragma once

#include "longfold/kernels/evoformer/reference.h"
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

template <class T>
Solution solve_with_reference(const Problem& p) {
  PlacedProblem<T> placed(p, cases::Layout::kContiguous, {});
  const auto forward = placed.forward_args();
  const auto backward = placed.backward_args();
  const int64_t need = std::max(reference_forward_scratch(forward), reference_backward_scratch(backward));
  std::vector<Accumulator<T>> scratch(static_cast<size_t>(need));
  reference_forward(forward, 0, p.shape.B * p.shape.H, std::span(scratch));
  reference_backward(backward, 0, p.shape.B * p.shape.H, std::span(scratch));
  return placed.solution();
}

template <class T>
Solution solve_with_kernels(const Problem& p, const Conditions& conditions = {}) {
  PlacedProblem<T> placed(p, p.shape.layout, conditions.surroundings);
  auto forward = placed.forward_args();
  forward.num_threads = conditions.cut_for_threads > 0 ? conditions.cut_for_threads : conditions.num_threads;
  const auto backward = placed.backward_args();
  const Plan plan = plan_forward(forward), back = plan_backward(backward);
  GuardedBytes workspace(back.workspace_bytes, conditions.scratch_content, conditions.canary);
  bool scratch_kept = true;
  const auto run_all = [&](int64_t items, int64_t scratch_bytes, const auto& run) {
    std::vector<GuardedBytes> scratch;
    for (int t = 0; t < conditions.num_threads; ++t) {
      scratch.emplace_back(scratch_bytes, conditions.scratch_content, conditions.canary);
    }
    run_items(items, conditions,
              [&](int64_t begin, int64_t end, int t) { run(begin, end, scratch[static_cast<size_t>(t)].span()); });
    for (const GuardedBytes& bytes : scratch) scratch_kept &= bytes.guards_untouched();
  };
  run_all(plan.num_items, plan.scratch_bytes,
          [&](int64_t begin, int64_t end, auto scratch) { run_forward(forward, begin, end, scratch); });
  run_all(back.num_items, back.scratch_bytes, [&](int64_t begin, int64_t end, auto scratch) {
    run_backward(backward, begin, end, scratch, workspace.span());
  });
  run_all(back.num_finish_items, 0,
          [&](int64_t begin, int64_t end, auto) { finish_backward(backward, begin, end, workspace.span()); });
  Solution solution = placed.solution();
  if (!scratch_kept) solution.damage += "around scratch; ";
  if (!workspace.guards_untouched()) solution.damage += "around workspace; ";
  return solution;
}

}  // namespace longfold::kernels
