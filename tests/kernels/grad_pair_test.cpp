// A pair bias's gradient where the caller holds it: other strides than rows of keys, sums that are there already, and
// rests. Once for a single row, whose blocks go straight there, once for rows whose copies are added up first.
#include <gtest/gtest.h>

#include "tests/kernels/attention_solution.h"

namespace longfold::kernels {
namespace {

// Where a [B, H, Lq, Lk] gradient lies, last dim first in memory order; `stretch` leaves gaps between neighbours.
struct Place {
  const char* name;
  Placement<4> placement;
};
const Place kPlaces[] = {{"rows of keys", {{0, 1, 2, 3}}},
                         {"rows of queries", {{0, 1, 3, 2}}},
                         {"heads innermost", {{0, 2, 3, 1}}},
                         {"gaps", {{1, 0, 2, 3}, 2}}};

struct Sum {
  Numbers sum, rest;
  bool only_own_memory = true;
};

// Runs the backward pass into `before` (sum and rest), as it is held at `place`.
template <class T>
Sum gradient(const Problem& p, const Placement<4>& place, bool adds, bool has_rest, const Sum& before) {
  const auto& s = p.shape;
  PlacedProblem<T> placed(p, s.layout, {});
  const Surroundings around{.margin = 40};
  PlacedTensor<float, 4> sum({s.B, s.H, s.Lq, s.Lk}, place, around), rest({s.B, s.H, s.Lq, s.Lk}, place, around);
  sum.write(before.sum);
  rest.write(before.rest);
  const auto forward = placed.forward_args();
  auto backward = placed.backward_args();
  backward.grad_pair = sum.view();
  if (has_rest) backward.grad_pair_rest = rest.view();
  backward.add_to_grad_pair = adds;
  const Plan plan = plan_forward(forward), back = plan_backward(backward);
  GuardedBytes scratch(std::max(plan.scratch_bytes, back.scratch_bytes), 0xffffffffu, 0xfffafffau);
  GuardedBytes workspace(back.workspace_bytes, 0xffffffffu, 0xfffafffau);
  run_forward(forward, 0, plan.num_items, scratch.span());
  run_backward(backward, 0, back.num_items, scratch.span(), workspace.span());
  finish_backward(backward, 0, back.num_finish_items, workspace.span());
  return {sum.read(), rest.read(), sum.surroundings_untouched() && rest.surroundings_untouched()};
}

float as_float(double value) {
  return static_cast<float>(value);
}

template <class T>
void expect_gradient_anywhere(const cases::EvoformerCase& shape) {
  const Problem problem = make_problem<T>(shape);
  const size_t count = static_cast<size_t>(shape.B * shape.H * shape.Lq * shape.Lk);
  const Numbers zeros(count, 0), old = random_numbers(DType::kFloat32, static_cast<int64_t>(count), 100, 77);
  const Numbers plain = solve_with_kernels<T>(problem).grad_pair;
  for (const Place& place : kPlaces) {
    const auto run = [&](bool adds, bool has_rest) {
      return gradient<T>(problem, place.placement, adds, has_rest, {old, old});
    };
    const Sum set = run(false, false), added = run(true, false), set_long = run(false, true),
              added_long = run(true, true);
    for (const Sum* sum : {&set, &added, &set_long, &added_long}) EXPECT_TRUE(sum->only_own_memory) << place.name;
    EXPECT_TRUE(same_bits(set.sum, plain)) << place.name;
    EXPECT_TRUE(same_bits(set.rest, old)) << place.name << ": no rest was asked for";
    for (size_t i = 0; i < count; ++i) {
      ASSERT_EQ(added.sum[i], double{as_float(old[i]) + as_float(plain[i])}) << place.name;
      ASSERT_EQ(as_float(set_long.sum[i] + set_long.rest[i]), as_float(plain[i])) << place.name;
      // Nothing is lost but the rounding of the rest.
      const double all = 2 * old[i] + set_long.sum[i] + set_long.rest[i];
      ASSERT_NEAR(added_long.sum[i] + added_long.rest[i], all, 0x1p-23 * std::abs(old[i]) + 0x1p-40) << place.name;
      ASSERT_EQ(added_long.sum[i], double{as_float(old[i]) + as_float(set_long.sum[i])}) << place.name;
    }
  }
}

TEST(GradPair, OfASingleRowAnywhere) {
  const cases::EvoformerCase shape{.name = "one", .B = 2, .N = 1, .Lq = 70, .Lk = 75, .H = 2, .D = 8};
  expect_gradient_anywhere<float>(shape);
  expect_gradient_anywhere<bfloat16>(shape);
}

// 48 rows of one head are three plain copies; 200 have rests.
TEST(GradPair, OfManyRowsAnywhere) {
  for (const int64_t rows : {3, 48, 200}) {
    const cases::EvoformerCase shape{.name = "rows", .B = 1, .N = rows, .Lq = 70, .Lk = 19, .H = 2, .D = 8};
    expect_gradient_anywhere<float>(shape);
    expect_gradient_anywhere<bfloat16>(shape);
  }
}

// A row whose keys are all hidden has no gradient: zeros, or what was there.
TEST(GradPair, OfAHiddenRow) {
  const cases::EvoformerCase shape{.name = "hidden", .B = 1, .N = 1, .Lq = 70, .Lk = 75, .H = 2, .D = 8};
  Problem problem = make_problem<float>(shape);
  problem.biases.push_back({cases::BiasKind::kMask, DType::kBool, Numbers(75, 0)});
  const Numbers old(2 * 70 * 75, 3);
  for (const Place& place : kPlaces) {
    EXPECT_TRUE(same_bits(gradient<float>(problem, place.placement, true, false, {old, old}).sum, old)) << place.name;
    const Sum set = gradient<float>(problem, place.placement, false, true, {old, old});
    EXPECT_EQ(largest(set.sum), 0) << place.name;
    EXPECT_EQ(largest(set.rest), 0) << place.name;
  }
}

}  // namespace
}  // namespace longfold::kernels
