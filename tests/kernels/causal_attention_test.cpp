// Causal attention against plain loops in the same dtype and in fp64, by the rule of docs/numerics.md; and the same
// bits whatever the threads, the items of a call, the memory it finds and the documents beside one.
#include "longfold/kernels/causal_attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <set>
#include <utility>

#include "longfold/kernels/causal/tile_size.h"
#include "tests/kernels/causal_accuracy.h"

namespace longfold::kernels {
namespace {

std::vector<CausalCase> cases_of_causal() {
  using cases::Layout;
  std::vector<CausalCase> all = {
      {.name = "one_token", .D = 16},
      {.name = "half_a_panel", .S = 33, .H = 2, .KV = 2, .D = 64},
      {.name = "panels_and_a_tail", .S = 200, .H = 2, .KV = 2, .D = 64},
      {.name = "batch", .B = 3, .S = 70, .H = 2, .KV = 2, .D = 32},
      {.name = "grouped_heads", .S = 150, .H = 6, .KV = 2, .D = 32},
      {.name = "one_key_head", .B = 2, .S = 130, .H = 3, .KV = 1, .D = 48},
      {.name = "many_chunks", .S = 800, .H = 1, .KV = 1, .D = 16},
      {.name = "long_row", .S = 1200, .H = 1, .KV = 1, .D = 16},
      {.name = "documents", .B = 2, .S = 300, .H = 2, .KV = 1, .D = 64, .documents = {1, 63, 64, 65, 107, 0, 300}},
      {.name = "long_and_short_documents", .S = 900, .H = 2, .KV = 2, .D = 24, .documents = {600, 5, 290, 5}},
      {.name = "window", .S = 500, .H = 2, .KV = 2, .D = 64, .window = 100},
      {.name = "window_of_one", .S = 130, .H = 1, .KV = 1, .D = 16, .window = 1},
      {.name = "window_of_a_block", .S = 260, .H = 1, .KV = 1, .D = 32, .window = 64},
      {.name = "narrow_window", .S = 1100, .H = 1, .KV = 1, .D = 16, .window = 190},
      {.name = "wide_window", .S = 800, .H = 1, .KV = 1, .D = 16, .window = 600},
      {.name = "window_and_documents", .S = 700, .H = 4, .KV = 2, .D = 40, .documents = {400, 300}, .window = 77},
  };
  const std::vector<CausalCase> rectangles = {
      {.name = "later_queries", .S = 192, .H = 2, .KV = 1, .D = 32, .Sk = 192, .first_query = 192},
      {.name = "all_keys_seen", .B = 2, .S = 130, .H = 2, .KV = 2, .D = 32, .Sk = 200, .first_query = 200},
      {.name = "part_way", .B = 2, .S = 150, .H = 4, .KV = 2, .D = 32, .Sk = 333, .first_query = 100},
      {.name = "last_queries", .S = 70, .H = 2, .KV = 2, .D = 64, .Sk = 500, .first_query = 430},
      {.name = "more_queries", .B = 2, .S = 700, .H = 2, .KV = 1, .D = 16, .Sk = 130, .first_query = 37},
      {.name = "one_query", .B = 2, .S = 1, .H = 4, .KV = 2, .D = 24, .Sk = 300, .first_query = 299},
      {.name = "one_key_seen", .S = 1, .H = 1, .KV = 1, .D = 16, .Sk = 50},
      {.name = "one_key_there", .S = 300, .H = 1, .KV = 1, .D = 16, .Sk = 1, .first_query = 5},
      {.name = "keys_that_none_sees", .S = 100, .H = 2, .KV = 1, .D = 17, .Sk = 1300, .first_query = 151},
      {.name = "many_chunks_of_both", .S = 1100, .H = 1, .KV = 1, .D = 16, .Sk = 1500, .first_query = 411},
      {.name = "far_behind", .S = 66, .H = 1, .KV = 1, .D = 16, .Sk = 65, .first_query = INT64_MAX},
  };
  all.insert(all.end(), rectangles.begin(), rectangles.end());
  for (const int64_t D : {1, 5, 17, 24, 31, 96, 100, 128}) {
    all.push_back({.name = "head_dim", .S = 150, .H = 2, .KV = 1, .D = D});
  }
  for (const Layout layout : {Layout::kLengthFirst, Layout::kHeadsFirst, Layout::kWider, Layout::kInnerStride}) {
    all.push_back({.name = "layout", .B = 2, .S = 140, .H = 4, .KV = 2, .D = 32, .layout = layout});
    all.push_back({.name = "layout_odd", .B = 2, .S = 140, .H = 2, .KV = 2, .D = 17, .layout = layout});
  }
  return all;
}

class CausalAttention : public testing::TestWithParam<CausalCase> {};

template <class T>
void expect_accurate(const CausalCase& shape) {
  const CausalProblem problem = make_causal_problem<T>(shape);
  EXPECT_EQ(broken_rule<T>(problem, solve_causal_with_kernels<T>(problem)), "");
}

TEST_P(CausalAttention, AsAccurateAsPlainLoops) {
  expect_accurate<float>(GetParam());
  expect_accurate<bfloat16>(GetParam());
  expect_accurate<float16>(GetParam());
}

TEST_P(CausalAttention, DoubleIsThePlainLoops) {
  const CausalProblem problem = make_causal_problem<double>(GetParam());
  EXPECT_EQ(differences(solve_causal_with_kernels<double>(problem), solve_causal_with_reference<double>(problem)), "");
}

template <class T>
void expect_same_bits(const CausalCase& shape) {
  const CausalProblem problem = make_causal_problem<T>(shape);
  const CausalSolution one = solve_causal_with_kernels<T>(problem);
  EXPECT_EQ(differences(one, solve_causal_with_kernels<T>(problem, {.num_threads = 3})), "");
  EXPECT_EQ(differences(one, solve_causal_with_kernels<T>(problem, {.items_per_call = 1 << 20})), "");
}

TEST_P(CausalAttention, SameBitsForAnyThreadsAndCalls) {
  expect_same_bits<float>(GetParam());
  expect_same_bits<bfloat16>(GetParam());
}

// Canaries lie behind scratch and workspace and around and between the elements of every tensor; scratch and
// surroundings hold NaN, which any use would spread.
template <class T>
void expect_only_own_memory_is_used(const CausalCase& shape) {
  const CausalProblem problem = make_causal_problem<T>(shape);
  const CausalSolution quiet = solve_causal_with_kernels<T>(
      problem, {.surroundings = {.filler = 0.125, .margin = 200}, .scratch_content = 0, .canary = 0x3e2a3e2au});
  const CausalSolution poisoned = solve_causal_with_kernels<T>(
      problem, {.items_per_call = 3, .surroundings = {.filler = std::nan(""), .margin = 200}});
  EXPECT_EQ(quiet.damage, "");
  EXPECT_EQ(poisoned.damage, "");
  EXPECT_EQ(differences(quiet, poisoned), "");
  for (const auto& [name, numbers] : poisoned.all()) {
    for (const double number : *numbers) ASSERT_TRUE(std::isfinite(number)) << name;
  }
}

TEST_P(CausalAttention, OnlyOwnMemoryIsUsed) {
  expect_only_own_memory_is_used<float>(GetParam());
  expect_only_own_memory_is_used<bfloat16>(GetParam());
  expect_only_own_memory_is_used<float16>(GetParam());
}

INSTANTIATE_TEST_SUITE_P(All, CausalAttention, testing::ValuesIn(cases_of_causal()), [](const auto& param_info) {
  return std::string(param_info.param.name) + "_" + std::to_string(param_info.index);
});

// Nothing of one document reaches another, not even NaN.
template <class T>
void expect_documents_alone_give_the_same() {
  const CausalCase together{.name = "", .S = 400, .H = 2, .KV = 1, .D = 32, .documents = {90, 170, 140}};
  CausalProblem packed = make_causal_problem<T>(together);
  CausalProblem alone = make_causal_problem<T>({.name = "", .S = 170, .H = 2, .KV = 1, .D = 32});
  const auto middle = [](const Numbers& numbers, int64_t width) {
    return Numbers(numbers.begin() + 90 * width, numbers.begin() + 260 * width);
  };
  alone.q = middle(packed.q, 64);
  alone.k = middle(packed.k, 32);
  alone.v = middle(packed.v, 32);
  alone.grad_out = middle(packed.grad_out, 64);
  for (Numbers* numbers : {&packed.q, &packed.grad_out}) {
    std::fill_n(numbers->begin(), 90 * 64, std::nan(""));
    std::fill(numbers->begin() + 260 * 64, numbers->end(), std::nan(""));
  }
  for (Numbers* numbers : {&packed.k, &packed.v}) {
    std::fill_n(numbers->begin(), 90 * 32, std::nan(""));
    std::fill(numbers->begin() + 260 * 32, numbers->end(), std::nan(""));
  }
  const CausalSolution whole = solve_causal_with_kernels<T>(packed), part = solve_causal_with_kernels<T>(alone);
  EXPECT_TRUE(same_bits(middle(whole.out, 64), part.out));
  EXPECT_TRUE(same_bits(middle(whole.grad_q, 64), part.grad_q));
  EXPECT_TRUE(same_bits(middle(whole.grad_k, 32), part.grad_k));
  EXPECT_TRUE(same_bits(middle(whole.grad_v, 32), part.grad_v));
  EXPECT_TRUE(std::isnan(whole.out.front()) && std::isnan(whole.grad_k.back()));
}

TEST(CausalDocuments, OneAloneHasTheBitsItHasAmongOthers) {
  expect_documents_alone_give_the_same<float>();
  expect_documents_alone_give_the_same<bfloat16>();
}

// The rule must be able to fail.
template <class T>
void expect_wrong_answers_to_be_rejected() {
  const CausalCase shape{.name = "", .S = 210, .H = 4, .KV = 2, .D = 32, .documents = {150, 60}};
  const CausalProblem problem = make_causal_problem<T>(shape);
  const auto expect_rejected = [&](const char* what, const auto& spoil) {
    CausalProblem wrong = problem;
    spoil(wrong);
    const std::string message = broken_rule<T>(problem, solve_causal_with_kernels<T>(wrong));
    EXPECT_NE(message.find("out"), std::string::npos) << what << ": " << message;
    EXPECT_NE(message.find("grad"), std::string::npos) << what << ": " << message;
  };
  expect_rejected("scale", [](CausalProblem& wrong) { wrong.scale *= 1.05; });
  expect_rejected("one document", [](CausalProblem& wrong) { wrong.starts = {0, 210}; });
  expect_rejected("a window", [](CausalProblem& wrong) { wrong.shape.window = 149; });
  expect_rejected("swapped heads of k", [](CausalProblem& wrong) {
    for (size_t i = 0; i < wrong.k.size(); i += 64) std::swap_ranges(&wrong.k[i], &wrong.k[i] + 32, &wrong.k[i] + 32);
  });
  const CausalSolution right = solve_causal_with_kernels<T>(problem);
  for (Numbers CausalSolution::* const result : {&CausalSolution::out, &CausalSolution::lse, &CausalSolution::grad_q,
                                                 &CausalSolution::grad_k, &CausalSolution::grad_v}) {
    CausalSolution zeroed = right;
    std::ranges::fill(zeroed.*result, 0);
    EXPECT_NE(broken_rule<T>(problem, zeroed), "");
    CausalSolution turned = right;
    for (double& number : turned.*result) number = -number;
    EXPECT_NE(broken_rule<T>(problem, turned), "");
  }
}

TEST(CausalAccuracy, WrongAnswersAreRejected) {
  expect_wrong_answers_to_be_rejected<float>();
  expect_wrong_answers_to_be_rejected<bfloat16>();
}

// Queries see logits that rise by hundreds along the row, and keys that the running maximum leaves far behind.
TEST(CausalAccuracy, LargeLogitsKeepTheirDigits) {
  const CausalCase shape{.name = "", .S = 400, .H = 1, .KV = 1, .D = 32};
  CausalProblem problem = make_causal_problem<float>(shape);
  problem.scale = 8;
  for (size_t i = 0; i < problem.k.size(); ++i) problem.k[i] *= 1 + static_cast<double>(i / 32) / 100;
  round_to(DType::kFloat32, problem.k);
  EXPECT_EQ(broken_rule<float>(problem, solve_causal_with_kernels<float>(problem)), "");
}

// Every square that queries of a document may see is there once, and none of one colour shares its rows or columns.
TEST(CausalPlan, ColoursShareNothing) {
  for (const int64_t tokens : {1, 64, 256, 257, 4096, 5000, 20000, 300000}) {
    for (const int64_t window : {0, 1, 63, 300, 3000, 19000}) {
      const int64_t chunk = chunk_tokens(tokens);
      const ChunkGrid grid({.queries = tokens, .keys = tokens}, window);
      ASSERT_LE(grid.num_chunks, kMostChunks);
      std::vector<std::vector<bool>> rows(static_cast<size_t>(grid.num_colours())), columns = rows;
      for (auto* seen : {&rows, &columns}) {
        for (auto& of_colour : *seen) of_colour.resize(static_cast<size_t>(grid.num_chunks));
      }
      for (int64_t i = 0; i < grid.num_chunks; ++i) {
        const int64_t first_seen = window == 0 ? 0 : std::max<int64_t>(0, i * chunk - window + 1) / chunk;
        ASSERT_EQ(grid.first_k_chunk(i), first_seen) << tokens << " tokens, window " << window << ", chunk " << i;
        for (int64_t j = first_seen; j <= i; ++j) {
          const auto colour = static_cast<size_t>(grid.colour(i, j));
          ASSERT_LT(colour, rows.size());
          ASSERT_FALSE(rows[colour][static_cast<size_t>(i)]) << tokens << " tokens, window " << window;
          ASSERT_FALSE(columns[colour][static_cast<size_t>(j)]) << tokens << " tokens, window " << window;
          rows[colour][static_cast<size_t>(i)] = columns[colour][static_cast<size_t>(j)] = true;
        }
      }
    }
  }
}

// The same of rectangles, and no square is empty.
TEST(CausalPlan, ColoursOfRectanglesShareNothing) {
  for (const auto& [queries, keys, first_query] : std::initializer_list<CausalTokens>{
           {1, 5000, 4999}, {5000, 1, 0}, {700, 5000, 0}, {700, 5000, 2500}, {5000, 700, 100}, {4096, 70000, 70000}}) {
    const ChunkGrid grid({queries, keys, first_query}, 0);
    std::set<std::pair<int64_t, int64_t>> rows, columns;
    for (int64_t i = 0; i < grid.q_chunks; ++i) {
      const int64_t last_query = std::min((i + 1) * grid.q_chunk, queries) - 1;
      const int64_t last_key = std::min(first_query + last_query, keys - 1);
      ASSERT_EQ(grid.first_k_chunk(i), 0);
      ASSERT_EQ(grid.end_k_chunk(i), last_key / grid.k_chunk + 1) << queries << " queries, " << keys << " keys";
      for (int64_t j = 0; j < grid.end_k_chunk(i); ++j) {
        ASSERT_LT(grid.colour(i, j), grid.num_colours());
        ASSERT_TRUE(rows.insert({grid.colour(i, j), i}).second) << queries << " queries, " << keys << " keys";
        ASSERT_TRUE(columns.insert({grid.colour(i, j), j}).second) << queries << " queries, " << keys << " keys";
      }
    }
  }
}

// One head of a long document is enough for a large machine, and its sums do not grow with the number of heads.
TEST(CausalPlan, LongDocumentsTakeFewHeadsAtOnce) {
  const std::vector<int64_t> starts = {0, 131072};
  CausalBackwardArgs<float> args;
  args.q.sizes = {1, 131072, 32, 64};
  args.k.sizes = args.q.sizes;
  args.documents = starts;
  const CausalBackwardPlan plan = plan_causal_backward(args);
  EXPECT_EQ(plan.heads_at_once, 1);
  EXPECT_LE(plan.workspace_bytes, 131072 * (3 * 64 + 2) * 4);
  EXPECT_EQ(std::ssize(plan.phases), 32 * (128 + 2));
}

}  // namespace
}  // namespace longfold::kernels
