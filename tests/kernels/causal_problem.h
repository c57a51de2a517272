// A random problem of causal attention in fp64 numbers that the dtype under test can hold, and its solution by the
// kernels or by plain loops.
#pragma once

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "longfold/kernels/causal/reference.h"
#include "tests/kernels/conditions.h"
#include "tests/kernels/guarded_bytes.h"
#include "tests/kernels/placed_tensor.h"

namespace longfold::kernels {

struct CausalCase {
  const char* name;
  int64_t B = 1, S = 1, H = 1, KV = 1, D = 1;
  std::vector<int64_t> documents = {};  // lengths; they fill B * S
  int64_t window = 0;
  int64_t Sk = 0;  // 0: S
  int64_t first_query = 0;
  cases::Layout layout = cases::Layout::kContiguous;

  [[nodiscard]] int64_t keys() const { return Sk == 0 ? S : Sk; }
};

struct CausalProblem {
  CausalCase shape;
  std::vector<int64_t> starts;
  Numbers q, k, v, grad_out;
  double scale = 1;
  Numbers larger_out, larger_lse;  // of the attention that this is a part of, for the backward pass; empty: its own
};

struct CausalSolution {
  Numbers out, lse, grad_q, grad_k, grad_v;
  std::string damage;  // what was written to outside outputs, scratch and workspace; empty if nothing

  [[nodiscard]] std::vector<std::pair<std::string, const Numbers*>> all() const {
    return {{"out", &out}, {"log_sum_exp", &lse}, {"grad_q", &grad_q}, {"grad_k", &grad_k}, {"grad_v", &grad_v}};
  }
};

template <class T>
CausalProblem make_causal_problem(const CausalCase& c, uint64_t seed = 1) {
  const DType dtype = dtype_of<T>();
  const int64_t of_q = c.B * c.S * c.H * c.D, of_k = c.B * c.keys() * c.KV * c.D;
  CausalProblem p{.shape = c,
                  .starts = {0},
                  .q = random_numbers(dtype, of_q, 1, seed),
                  .k = random_numbers(dtype, of_k, 1, seed + 1),
                  .v = random_numbers(dtype, of_k, 1, seed + 2),
                  .grad_out = random_numbers(dtype, of_q, 1, seed + 3),
                  .scale = 1 / std::sqrt(static_cast<double>(c.D)),
                  .larger_out = {},
                  .larger_lse = {}};
  if (c.documents.empty()) {
    for (int64_t b = 0; b < c.B; ++b) p.starts.push_back((b + 1) * c.S);
  }
  for (const int64_t tokens : c.documents) p.starts.push_back(p.starts.back() + tokens);
  return p;
}

inline Placement<4> placement_of_causal(cases::Layout layout) {
  switch (layout) {
    case cases::Layout::kLengthFirst:
      return {{1, 0, 2, 3}};
    case cases::Layout::kHeadsFirst:
      return {{0, 2, 1, 3}};
    case cases::Layout::kWider:
      return {{0, 1, 2, 3}, 3};
    case cases::Layout::kInnerStride:
      return {{0, 3, 2, 1}, 2};
    default:
      return {{0, 1, 2, 3}};
  }
}

template <class T>
class PlacedCausalProblem {
 public:
  PlacedCausalProblem(const CausalProblem& p, cases::Layout layout, Surroundings around)
      : p_(p),
        q_(queries(), placement_of_causal(layout), around),
        k_(keys(), placement_of_causal(layout), around),
        v_(keys(), placement_of_causal(layout), around),
        grad_out_(queries(), placement_of_causal(layout), around),
        out_(queries(), placement_of_causal(layout), around),
        grad_q_(queries(), placement_of_causal(layout), around),
        grad_k_(keys(), placement_of_causal(layout), around),
        grad_v_(keys(), placement_of_causal(layout), around),
        lse_({p.shape.B, p.shape.H, p.shape.S}, {{0, 1, 2}}, around) {
    q_.write(p.q);
    k_.write(p.k);
    v_.write(p.v);
    grad_out_.write(p.grad_out);
    for (auto* tensor : {&out_, &grad_q_, &grad_k_, &grad_v_}) tensor->fill(std::nan(""));
    lse_.fill(std::nan(""));
  }

  CausalForwardArgs<T> forward_args() {
    return {.q = q_.const_view(),
            .k = k_.const_view(),
            .v = v_.const_view(),
            .documents = p_.starts,
            .window = p_.shape.window,
            .first_query = p_.shape.first_query,
            .out = out_.view(),
            .log_sum_exp = lse_.view(),
            .scale = p_.scale};
  }
  CausalBackwardArgs<T> backward_args() {
    return {.q = q_.const_view(),
            .k = k_.const_view(),
            .v = v_.const_view(),
            .documents = p_.starts,
            .window = p_.shape.window,
            .first_query = p_.shape.first_query,
            .out = out_.const_view(),
            .log_sum_exp = lse_.const_view(),
            .grad_out = grad_out_.const_view(),
            .grad_q = grad_q_.view(),
            .grad_k = grad_k_.view(),
            .grad_v = grad_v_.view(),
            .scale = p_.scale};
  }

  // Between the passes.
  void place_larger() {
    if (!p_.larger_out.empty()) out_.write(p_.larger_out);
    if (!p_.larger_lse.empty()) lse_.write(p_.larger_lse);
  }

  [[nodiscard]] CausalSolution solution() const {
    CausalSolution s{.out = out_.read(),
                     .lse = lse_.read(),
                     .grad_q = grad_q_.read(),
                     .grad_k = grad_k_.read(),
                     .grad_v = grad_v_.read(),
                     .damage = ""};
    for (const auto* tensor : {&out_, &grad_q_, &grad_k_, &grad_v_}) {
      if (!tensor->surroundings_untouched()) s.damage += "between elements; ";
    }
    if (!lse_.surroundings_untouched()) s.damage += "around log_sum_exp; ";
    return s;
  }

 private:
  [[nodiscard]] std::array<int64_t, 4> queries() const { return {p_.shape.B, p_.shape.S, p_.shape.H, p_.shape.D}; }
  [[nodiscard]] std::array<int64_t, 4> keys() const { return {p_.shape.B, p_.shape.keys(), p_.shape.KV, p_.shape.D}; }

  const CausalProblem& p_;
  PlacedTensor<T, 4> q_, k_, v_, grad_out_, out_, grad_q_, grad_k_, grad_v_;
  PlacedTensor<Accumulator<T>, 3> lse_;
};

template <class T>
CausalSolution solve_causal_with_reference(const CausalProblem& p) {
  PlacedCausalProblem<T> placed(p, cases::Layout::kContiguous, {});
  std::vector<Accumulator<T>> scratch(
      static_cast<size_t>(reference_causal_scratch(p.starts, p.shape.keys() - p.shape.S, p.shape.D)));
  const int64_t items = (std::ssize(p.starts) - 1) * p.shape.KV;
  reference_causal_forward(placed.forward_args(), 0, items, std::span(scratch));
  placed.place_larger();
  reference_causal_backward(placed.backward_args(), 0, items, std::span(scratch));
  return placed.solution();
}

template <class T>
CausalSolution solve_causal_with_kernels(const CausalProblem& p, const Conditions& conditions = {}) {
  PlacedCausalProblem<T> placed(p, p.shape.layout, conditions.surroundings);
  const auto forward = placed.forward_args();
  const auto backward = placed.backward_args();
  const CausalForwardPlan plan = plan_causal_forward(forward);
  const CausalBackwardPlan back = plan_causal_backward(backward);
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
          [&](int64_t begin, int64_t end, auto scratch) { run_causal_forward(forward, plan, begin, end, scratch); });
  placed.place_larger();
  for (size_t phase = 0; phase < back.phases.size(); ++phase) {
    run_all(back.phases[phase], back.scratch_bytes, [&](int64_t begin, int64_t end, auto scratch) {
      run_causal_backward(backward, back, static_cast<int64_t>(phase), begin, end, scratch, workspace.span());
    });
  }
  CausalSolution solution = placed.solution();
  if (!scratch_kept) solution.damage += "around scratch; ";
  if (!workspace.guards_untouched()) solution.damage += "around workspace; ";
  return solution;
}

inline std::string differences(const CausalSolution& a, const CausalSolution& b) {
  std::string names;
  const auto left = a.all(), right = b.all();
  for (size_t i = 0; i < left.size(); ++i) {
    if (!same_bits(*left[i].second, *right[i].second)) names += left[i].first + " ";
  }
  return names;
}

}  // namespace longfold::kernels
