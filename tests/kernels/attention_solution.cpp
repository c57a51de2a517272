#include "tests/kernels/attention_solution.h"

#include "longfold/kernels/evoformer/reference.h"

namespace longfold::kernels {

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
Solution solve_with_kernels(const Problem& p, const Conditions& conditions) {
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

template Solution solve_with_reference<float>(const Problem&);
template Solution solve_with_reference<bfloat16>(const Problem&);
template Solution solve_with_reference<float16>(const Problem&);
template Solution solve_with_reference<double>(const Problem&);
template Solution solve_with_kernels<float>(const Problem&, const Conditions&);
template Solution solve_with_kernels<bfloat16>(const Problem&, const Conditions&);
template Solution solve_with_kernels<float16>(const Problem&, const Conditions&);
template Solution solve_with_kernels<double>(const Problem&, const Conditions&);

}  // namespace longfold::kernels
