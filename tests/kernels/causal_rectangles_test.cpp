// Rectangles of causal attention, against the whole that they are cut from: nothing here asks the code under test which
// query sees which key. Their accuracy, bits and memory are tested beside all others in causal_attention_test.cpp.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/kernels/causal_accuracy.h"

namespace longfold::kernels {
namespace {

// Tokens [begin, end) of each row of numbers [B, S, width].
Numbers some_tokens(const Numbers& all, int64_t S, int64_t width, int64_t begin, int64_t end) {
  Numbers part;
  for (int64_t row = 0; row < std::ssize(all); row += S * width) {
    part.insert(part.end(), all.begin() + row + begin * width, all.begin() + row + end * width);
  }
  return part;
}

// to[B, S, width] += part, at the tokens [begin, ...) of each row.
void add_tokens(const Numbers& part, int64_t count, int64_t S, int64_t width, int64_t begin, Numbers& to) {
  for (int64_t i = 0; i < std::ssize(part); ++i) {
    const int64_t row = i / (count * width), rest = i % (count * width);
    to[static_cast<size_t>((row * S + begin) * width + rest)] += part[static_cast<size_t>(i)];
  }
}

struct Range {
  int64_t begin, end;
  [[nodiscard]] int64_t size() const { return end - begin; }
};

// Queries and keys of a problem whose tokens are both.
CausalProblem rectangle(const CausalProblem& whole, Range queries, Range keys) {
  const CausalCase& c = whole.shape;
  CausalProblem part = whole;
  part.shape.S = queries.size();
  part.shape.Sk = keys.size();
  part.shape.first_query = queries.begin - keys.begin;
  part.starts = {0};
  for (int64_t b = 0; b < c.B; ++b) part.starts.push_back((b + 1) * queries.size());
  part.q = some_tokens(whole.q, c.S, c.H * c.D, queries.begin, queries.end);
  part.grad_out = some_tokens(whole.grad_out, c.S, c.H * c.D, queries.begin, queries.end);
  part.k = some_tokens(whole.k, c.S, c.KV * c.D, keys.begin, keys.end);
  part.v = some_tokens(whole.v, c.S, c.KV * c.D, keys.begin, keys.end);
  return part;
}

// Attention over two sets of keys, from that over each: out [B, S, H, D], lse [B, H, S].
void merge(const CausalCase& c, int64_t S, const CausalSolution& a, const CausalSolution& b, Numbers& out,
           Numbers& lse) {
  out.resize(a.out.size());
  lse.resize(a.lse.size());
  for (size_t i = 0; i < lse.size(); ++i) {
    const double largest = std::max(a.lse[i], b.lse[i]);
    lse[i] = largest + std::log(std::exp(a.lse[i] - largest) + std::exp(b.lse[i] - largest));
  }
  for (size_t i = 0; i < out.size(); ++i) {
    const auto at = static_cast<int64_t>(i) / c.D, h = at % c.H, s = at / c.H % S, row = at / c.H / S;
    const auto of = static_cast<size_t>((row * c.H + h) * S + s);
    out[i] = a.out[i] * std::exp(a.lse[of] - lse[of]) + b.out[i] * std::exp(b.lse[of] - lse[of]);
  }
}

// Two chunks of a sequence, as a ring of two would attend: the first its own keys, the second those of both.
template <class T>
CausalSolution solve_in_chunks(const CausalProblem& whole, int64_t cut) {
  const CausalCase& c = whole.shape;
  const Range first{0, cut}, second{cut, c.S};
  CausalProblem before = rectangle(whole, second, first), own = rectangle(whole, second, second);
  const CausalSolution alone = solve_causal_with_kernels<T>(rectangle(whole, first, first));
  Numbers out, lse;
  merge(c, second.size(), solve_causal_with_kernels<T>(before), solve_causal_with_kernels<T>(own), out, lse);
  round_to(dtype_of<T>(), out);
  for (CausalProblem* part : {&before, &own}) {
    part->larger_out = out;
    part->larger_lse = lse;
  }
  CausalSolution all{.out = Numbers(whole.q.size()),
                     .lse = Numbers(static_cast<size_t>(c.B * c.H * c.S)),
                     .grad_q = Numbers(whole.q.size()),
                     .grad_k = Numbers(whole.k.size()),
                     .grad_v = Numbers(whole.v.size()),
                     .damage = alone.damage};
  const auto add_queries = [&](const CausalSolution& part, Range queries) {
    add_tokens(part.grad_q, queries.size(), c.S, c.H * c.D, queries.begin, all.grad_q);
  };
  const auto add_keys = [&](const CausalSolution& part, Range keys) {
    add_tokens(part.grad_k, keys.size(), c.S, c.KV * c.D, keys.begin, all.grad_k);
    add_tokens(part.grad_v, keys.size(), c.S, c.KV * c.D, keys.begin, all.grad_v);
  };
  add_tokens(alone.out, cut, c.S, c.H * c.D, 0, all.out);
  add_tokens(out, second.size(), c.S, c.H * c.D, cut, all.out);
  add_tokens(alone.lse, cut, c.S, 1, 0, all.lse);
  add_tokens(lse, second.size(), c.S, 1, cut, all.lse);
  add_queries(alone, first);
  add_keys(alone, first);
  for (const auto& [part, keys] : {std::pair(&before, first), std::pair(&own, second)}) {
    const CausalSolution solution = solve_causal_with_kernels<T>(*part);
    all.damage += solution.damage;
    add_queries(solution, second);
    add_keys(solution, keys);
  }
  return all;
}

constexpr CausalCase kWhole{.name = "", .B = 2, .S = 300, .H = 4, .KV = 2, .D = 24};

// Queries from `cut` on see all keys before it and some behind: with nothing merged, they are the last of the whole.
template <class T>
void expect_last_queries_as_in_the_whole(int64_t cut) {
  const CausalCase& c = kWhole;
  const CausalProblem whole = make_causal_problem<T>(c);
  const CausalProblem last = rectangle(whole, {cut, c.S}, {0, c.S});
  const CausalSolution right = solve_causal_with_reference<double>(whole), got = solve_causal_with_kernels<T>(last);
  const double epsilon = std::is_same_v<T, bfloat16> ? 0x1p-6 : std::is_same_v<T, float16> ? 0x1p-9 : 0x1p-19;
  const auto expect_close = [&](const char* name, const Numbers& numbers, const Numbers& of_all, int64_t width) {
    const Numbers expected = some_tokens(of_all, c.S, width, cut, c.S);
    EXPECT_LE(error(numbers, expected), epsilon * largest(expected)) << name << " from " << cut;
  };
  expect_close("out", got.out, right.out, c.H * c.D);
  expect_close("grad_q", got.grad_q, right.grad_q, c.H * c.D);
  expect_close("log_sum_exp", got.lse, right.lse, 1);
}

TEST(CausalRectangles, LastQueriesAreThoseOfTheWhole) {
  for (const int64_t cut : {0, 1, 64, 130, 255, 299}) {
    expect_last_queries_as_in_the_whole<float>(cut);
    expect_last_queries_as_in_the_whole<double>(cut);
    expect_last_queries_as_in_the_whole<bfloat16>(cut);
    expect_last_queries_as_in_the_whole<float16>(cut);
  }
}

// A multiple of 64 leaves panels and blocks as they are.
TEST(CausalRectangles, LastPanelsHaveTheirBits) {
  const CausalCase c{.name = "", .S = 1400, .H = 2, .KV = 1, .D = 32};
  const CausalProblem whole = make_causal_problem<float>(c);
  const CausalSolution all = solve_causal_with_kernels<float>(whole);
  const CausalSolution last = solve_causal_with_kernels<float>(rectangle(whole, {1088, c.S}, {0, c.S}));
  EXPECT_TRUE(same_bits(last.out, some_tokens(all.out, c.S, c.H * c.D, 1088, c.S)));
  EXPECT_TRUE(same_bits(last.lse, some_tokens(all.lse, c.S, 1, 1088, c.S)));
}

template <class T>
void expect_chunks_to_merge(int64_t cut) {
  const CausalProblem whole = make_causal_problem<T>(kWhole);
  EXPECT_EQ(broken_rule<T>(whole, solve_in_chunks<T>(whole, cut)), "") << cut;
}

TEST(CausalRectangles, ChunksMergeToTheWhole) {
  for (const int64_t cut : {64, 130, 299}) {
    expect_chunks_to_merge<float>(cut);
    expect_chunks_to_merge<double>(cut);
    expect_chunks_to_merge<bfloat16>(cut);
    expect_chunks_to_merge<float16>(cut);
  }
}

// What lies behind all that a panel sees does not reach it: chunks may be computed before later ones are there.
TEST(CausalRectangles, KeysThatNoneSeesMayHoldAnything) {
  const CausalProblem clean =
      make_causal_problem<float>({.name = "", .S = 70, .H = 2, .KV = 1, .D = 32, .Sk = 400, .first_query = 131});
  CausalProblem dirty = clean;
  for (size_t i = 201 * 32; i < dirty.k.size(); ++i) dirty.k[i] = dirty.v[i] = std::nan("");
  const CausalSolution right = solve_causal_with_kernels<float>(clean);
  EXPECT_EQ(differences(solve_causal_with_kernels<float>(dirty), right), "");
  for (size_t i = 201 * 32; i < right.grad_k.size(); ++i) ASSERT_EQ(right.grad_k[i], 0) << i;
  for (size_t i = 201 * 32; i < right.grad_v.size(); ++i) ASSERT_EQ(right.grad_v[i], 0) << i;
}

template <class T>
void expect_wrong_places_to_be_rejected() {
  const CausalProblem right =
      make_causal_problem<T>({.name = "", .S = 90, .H = 2, .KV = 1, .D = 32, .Sk = 150, .first_query = 40});
  EXPECT_EQ(broken_rule<T>(right, solve_causal_with_kernels<T>(right)), "");
  for (const int64_t place : {0, 39, 41, 150}) {
    CausalProblem wrong = right;
    wrong.shape.first_query = place;
    const std::string message = broken_rule<T>(right, solve_causal_with_kernels<T>(wrong));
    for (const char* name : {"out", "log_sum_exp", "grad_q", "grad_k", "grad_v"}) {
      EXPECT_NE(message.find(name), std::string::npos) << name << " at " << place;
    }
  }
}

TEST(CausalRectangles, WrongPlacesAreRejected) {
  expect_wrong_places_to_be_rejected<float>();
  expect_wrong_places_to_be_rejected<bfloat16>();
}

}  // namespace
}  // namespace longfold::kernels
