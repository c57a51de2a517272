// Random small problems: shapes, layouts, biases, masks and magnitudes, each judged by the 2x rule against fp64. A
// failure names the seed; problem_of_seed<T>(seed) makes it again.
#include <gtest/gtest.h>

#include "tests/kernels/accuracy_rule.h"

namespace longfold::kernels {
namespace {

using cases::BiasKind;
using Random = std::mt19937_64;

int64_t between(Random& random, int64_t least, int64_t most) {
  return least + static_cast<int64_t>(random() % static_cast<uint64_t>(most - least + 1));
}
bool chance(Random& random, int64_t one_in) {
  return between(random, 1, one_in) == 1;
}
template <class Choice>
Choice choose(Random& random, std::initializer_list<Choice> choices) {
  return choices.begin()[between(random, 0, static_cast<int64_t>(choices.size()) - 1)];
}

cases::EvoformerCase random_shape(Random& random) {
  cases::EvoformerCase shape{.name = "random",
                             .B = between(random, 1, 2),
                             .N = between(random, 1, 4),
                             .Lq = chance(random, 3) ? between(random, 60, 140) : between(random, 1, 40),
                             .Lk = chance(random, 3) ? between(random, 60, 140) : between(random, 1, 40),
                             .H = between(random, 1, 3),
                             .D = choose<int64_t>(random, {8, 16, 24, 32, 48, 64, 128, between(random, 1, 140)}),
                             .biases = {}};
  shape.layout = static_cast<cases::Layout>(between(random, 0, 5));
  for (int64_t count = between(random, 0, 3); count > 0; --count) {
    const auto type =
        chance(random, 2) ? cases::ElementType::kFloat32 : static_cast<cases::ElementType>(between(random, 0, 4));
    shape.biases.push_back({static_cast<BiasKind>(between(random, 0, 4)), type});
  }
  return shape;
}

// Some elements, or whole runs of Lk of them, become what masks are made of.
void hide_keys(Random& random, Numbers& numbers, int64_t Lk) {
  const double hidden = chance(random, 2) ? -INFINITY : -1e9;
  const int64_t one_in = choose<int64_t>(random, {2, 10, 50});
  for (double& number : numbers) {
    if (chance(random, one_in)) number = hidden;
  }
  const int64_t rows = static_cast<int64_t>(numbers.size()) / Lk;
  for (int64_t row = 0; row < rows; ++row) {
    if (!chance(random, 4)) continue;
    const auto first = numbers.begin() + row * Lk;
    std::fill(first, first + Lk, hidden);
  }
}

// One query's biases, or all of them, lie far from zero.
void shift(Random& random, Numbers& numbers, int64_t Lk) {
  const double by = choose<double>(random, {-1e4, 1e4});
  const int64_t rows = static_cast<int64_t>(numbers.size()) / Lk, row = between(random, 0, rows - 1);
  const bool all = chance(random, 2);
  for (int64_t i = 0; i < rows * Lk; ++i) {
    if (all || i / Lk == row) numbers[static_cast<size_t>(i)] += by;
  }
}

template <class T>
Problem problem_of_seed(uint64_t seed) {
  Random random(seed);
  const cases::EvoformerCase shape = random_shape(random);
  const double bias_std = choose<double>(random, {1, 1, 20, 50});
  Problem problem = make_problem<T>(shape, bias_std, seed);
  if (chance(random, 4)) problem.scale = choose<double>(random, {0.0, -1.0, 1.0, 3.0});
  // Logits of about +-1e4, the largest of which takes it all.
  if (chance(random, 12)) problem.scale = 1e4 / std::sqrt(static_cast<double>(shape.D));
  for (BiasValues& bias : problem.biases) {
    if (chance(random, 8)) shift(random, bias.numbers, shape.Lk);
    if (chance(random, 3)) hide_keys(random, bias.numbers, shape.Lk);
    if (shape.layout == cases::Layout::kSharedBatch) share_batch(bias.numbers, shape.B);
    round_to(bias.dtype, bias.numbers);
  }
  problem.fully_masked = chance(random, 2) ? FullyMasked::kMean : FullyMasked::kZero;
  problem.wants_grad_pair = !chance(random, 4);
  problem.wants_grad_mask = !chance(random, 4);
  problem.has_grad_lse = !chance(random, 4);
  return problem;
}

std::string described(const Problem& p) {
  const cases::EvoformerCase& c = p.shape;
  std::ostringstream text;
  text << "B" << c.B << " N" << c.N << " Lq" << c.Lq << " Lk" << c.Lk << " H" << c.H << " D" << c.D << " layout "
       << static_cast<int>(c.layout) << " scale " << p.scale << " biases (kind type)";
  for (const BiasValues& bias : p.biases) {
    text << " (" << static_cast<int>(bias.kind) << " " << static_cast<int>(bias.dtype) << ")";
  }
  text << " largest logit " << largest_logit(solve_with_reference<double>(p).lse);
  return text.str() + (p.fully_masked == FullyMasked::kMean ? " mean" : " zero");
}

template <class T>
void check_seeds(uint64_t first, uint64_t count) {
  for (uint64_t seed = first; seed < first + count; ++seed) {
    const Problem problem = problem_of_seed<T>(seed);
    const Conditions conditions{.num_threads = 1 + static_cast<int>(seed % 2),
                                .items_per_call = 1 + static_cast<int64_t>(seed % 5),
                                .surroundings = {.margin = 100}};
    const std::string broken = check<T>(problem, conditions);
    EXPECT_EQ(broken, "") << "seed " << seed << ": " << described(problem);
  }
}

constexpr uint64_t kProblems = 250;

TEST(Property, Float32) {
  check_seeds<float>(1000, kProblems);
}
TEST(Property, BFloat16) {
  check_seeds<bfloat16>(2000, kProblems);
}
TEST(Property, Float16) {
  check_seeds<float16>(3000, kProblems);
}

// The random problems must hold what they are there for.
TEST(Property, ProblemsCoverTheCorners) {
  int64_t masked_rows = 0, ordinary_rows = 0, large_logits = 0, wide = 0, general = 0;
  for (uint64_t seed = 1000; seed < 1100; ++seed) {
    const Problem problem = problem_of_seed<float>(seed);
    wide += problem.shape.D == 128;
    for (const BiasValues& bias : problem.biases) general += bias.kind == BiasKind::kGeneral;
    for (const double lse : solve_with_reference<float>(problem).lse) {
      (lse <= kFullyMaskedLogit ? masked_rows : ordinary_rows)++;
      large_logits += lse > kFullyMaskedLogit && std::abs(lse) > 5e3;
    }
  }
  EXPECT_GT(masked_rows, 500);
  EXPECT_GT(ordinary_rows, 5000);
  EXPECT_GT(large_logits, 500);
  EXPECT_GT(wide, 5);
  EXPECT_GT(general, 20);
}

}  // namespace
}  // namespace longfold::kernels
