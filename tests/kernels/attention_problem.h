// A random attention problem in fp64 and in the dtype under test, and everything that comes out of it.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "longfold/kernels/evoformer_attention.h"
#include "longfold/kernels/reference.h"
#include "tests/cases/evoformer_cases.h"

namespace longfold::kernels {

template <class T>
T from_double(double value) {
  if constexpr (std::is_same_v<T, bfloat16>)
    return to_bfloat16(static_cast<float>(value));
  else if constexpr (std::is_same_v<T, float16>)
    return to_float16(static_cast<float>(value));
  else
    return static_cast<T>(value);
}
template <class T>
double as_double(T value) {
  if constexpr (std::is_same_v<T, bfloat16> || std::is_same_v<T, float16>)
    return to_float(value);
  else
    return static_cast<double>(value);
}

using Numbers = std::vector<double>;

// Values are rounded to T first, so that every dtype, fp64 included, solves the same problem.
template <class T>
Numbers random_numbers(int64_t count, double std, uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> normal(0.0, std);
  Numbers numbers(static_cast<size_t>(count));
  for (double& number : numbers) number = as_double(from_double<T>(normal(generator)));
  return numbers;
}

struct Problem {
  cases::EvoformerCase shape;
  Numbers q, k, v, mask, pair, grad_out, grad_lse;
  double scale = 1;
  FullyMasked fully_masked = FullyMasked::kZero;
  bool wants_logits = false;  // also the gradient of every logit
};

template <class T>
Problem make_problem(const cases::EvoformerCase& c, double bias_std = 1.0, uint64_t seed = 1) {
  const int64_t rows = c.B * c.N * c.H * c.D;
  return {.shape = c,
          .q = random_numbers<T>(rows * c.Lq, 1, seed),
          .k = random_numbers<T>(rows * c.Lk, 1, seed + 1),
          .v = random_numbers<T>(rows * c.Lk, 1, seed + 2),
          .mask = random_numbers<float>(c.mask ? c.B * c.N * c.Lk : 0, bias_std, seed + 3),
          .pair = random_numbers<float>(c.pair ? c.B * c.H * c.Lq * c.Lk : 0, bias_std, seed + 4),
          .grad_out = random_numbers<T>(rows * c.Lq, 1, seed + 5),
          .grad_lse = random_numbers<float>(c.B * c.N * c.H * c.Lq, 1, seed + 6),
          .scale = 1 / std::sqrt(static_cast<double>(c.D))};
}

struct Solution {
  Numbers out, lse, grad_q, grad_k, grad_v, grad_pair, grad_mask, grad_logits;

  [[nodiscard]] std::vector<std::pair<std::string, const Numbers*>> all() const {
    return {{"out", &out},       {"log_sum_exp", &lse},     {"grad_q", &grad_q},       {"grad_k", &grad_k},
            {"grad_v", &grad_v}, {"grad_pair", &grad_pair}, {"grad_mask", &grad_mask}, {"grad_logits", &grad_logits}};
  }
};

template <size_t Rank>
std::array<int64_t, Rank> contiguous(const std::array<int64_t, Rank>& sizes) {
  std::array<int64_t, Rank> strides{};
  int64_t stride = 1;
  for (size_t dim = Rank; dim-- > 0;) {
    strides[dim] = stride;
    stride *= sizes[dim];
  }
  return strides;
}

template <class T, size_t Rank>
TensorView<T, int{Rank}> view(std::vector<std::remove_const_t<T>>& data, const std::array<int64_t, Rank>& sizes) {
  return {data.data(), sizes, contiguous(sizes)};
}

template <class T>
std::vector<T> converted(const Numbers& numbers) {
  std::vector<T> result;
  result.reserve(numbers.size());
  for (const double number : numbers) result.push_back(from_double<T>(number));
  return result;
}
template <class T>
Numbers doubles_of(const std::vector<T>& values) {
  Numbers result;
  result.reserve(values.size());
  for (const T value : values) result.push_back(as_double(value));
  return result;
}

// Runs items in `num_threads` interleaved shares, the last items first: results must not depend on who does what.
template <class Run>
void run_items(int64_t num_items, int num_threads, const Run& run) {
  std::vector<std::jthread> threads;
  for (int t = 0; t < num_threads; ++t) {
    threads.emplace_back([&, t] {
      for (int64_t item = num_items - 1 - t; item >= 0; item -= num_threads) run(item, t);
    });
  }
}

inline std::vector<std::byte> aligned_bytes(int64_t count) {
  return std::vector<std::byte>(static_cast<size_t>(count + 64));
}
inline std::span<std::byte> aligned_span(std::vector<std::byte>& bytes) {
  const auto address = reinterpret_cast<uintptr_t>(bytes.data());
  const size_t skip = (64 - address % 64) % 64;
  return {bytes.data() + skip, bytes.size() - 64};
}

enum class With { kKernels, kReference };

// Solves the problem in T, forward and backward, everything contiguous.
template <class T>
Solution solve(const Problem& p, With with, int num_threads = 1) {
  using Acc = Accumulator<T>;
  const auto& s = p.shape;
  const std::array<int64_t, 5> queries{s.B, s.N, s.Lq, s.H, s.D}, keys{s.B, s.N, s.Lk, s.H, s.D};
  const std::array<int64_t, 4> lse_sizes{s.B, s.N, s.H, s.Lq};
  auto q = converted<T>(p.q), k = converted<T>(p.k), v = converted<T>(p.v), grad_out = converted<T>(p.grad_out);
  auto mask = converted<float>(p.mask), pair = converted<float>(p.pair);
  auto grad_lse = converted<Acc>(p.grad_lse);
  const T nan = from_double<T>(std::nan(""));  // whatever is not written shows
  std::vector<T> out(q.size(), nan), grad_q(q.size(), nan), grad_k(k.size(), nan), grad_v(k.size(), nan);
  std::vector<Acc> lse(grad_lse.size(), std::nanf("")), correction(lse), grad_pair(pair.size(), std::nanf("")),
      grad_mask(s.mask ? static_cast<size_t>(s.B * s.N * s.H * s.Lk) : 0, std::nanf("")),
      grad_logits(p.wants_logits ? static_cast<size_t>(s.B * s.N * s.H * s.Lq * s.Lk) : 0);
  std::vector<BiasView> biases;
  if (s.mask) biases.push_back({mask.data(), DType::kFloat32, {s.N * s.Lk, s.Lk, 0, 0, 1}});
  if (s.pair) biases.push_back({pair.data(), DType::kFloat32, {s.H * s.Lq * s.Lk, 0, s.Lq * s.Lk, s.Lk, 1}});

  const ForwardArgs<T> forward{.q = view<const T>(q, queries),
                               .k = view<const T>(k, keys),
                               .v = view<const T>(v, keys),
                               .biases = biases,
                               .out = view<T>(out, queries),
                               .log_sum_exp = view<Acc>(lse, lse_sizes),
                               .lse_correction = view<Acc>(correction, lse_sizes),
                               .scale = p.scale,
                               .fully_masked = p.fully_masked};
  BackwardArgs<T> backward{.q = forward.q,
                           .k = forward.k,
                           .v = forward.v,
                           .biases = biases,
                           .out = view<const T>(out, queries),
                           .log_sum_exp = view<const Acc>(lse, lse_sizes),
                           .lse_correction = view<const Acc>(correction, lse_sizes),
                           .grad_out = view<const T>(grad_out, queries),
                           .grad_log_sum_exp = view<const Acc>(grad_lse, lse_sizes),
                           .grad_q = view<T>(grad_q, queries),
                           .grad_k = view<T>(grad_k, keys),
                           .grad_v = view<T>(grad_v, keys),
                           .scale = p.scale,
                           .fully_masked = p.fully_masked};
  if (s.pair) backward.grad_pair = view<Acc>(grad_pair, std::array<int64_t, 4>{s.B, s.H, s.Lq, s.Lk});
  if (p.wants_logits) {
    backward.grad_logits = view<Acc>(grad_logits, std::array<int64_t, 5>{s.B, s.N, s.H, s.Lq, s.Lk});
  }
  if (s.mask) backward.grad_mask = view<Acc>(grad_mask, std::array<int64_t, 4>{s.B, s.N, s.H, s.Lk});

  if (with == With::kReference) {
    const int64_t need = std::max(reference_forward_scratch(forward), reference_backward_scratch(backward));
    std::vector<Acc> scratch(static_cast<size_t>(need));
    reference_forward(forward, 0, s.B * s.H, std::span(scratch));
    reference_backward(backward, 0, s.B * s.H, std::span(scratch));
  } else {
    const Plan plan = plan_forward(forward), back = plan_backward(backward);
    std::vector<std::vector<std::byte>> scratch;
    for (int t = 0; t < num_threads; ++t) {
      scratch.push_back(aligned_bytes(std::max(plan.scratch_bytes, back.scratch_bytes)));
    }
    auto workspace = aligned_bytes(back.workspace_bytes);
    const auto mine = [&](int t) { return aligned_span(scratch[static_cast<size_t>(t)]); };
    run_items(plan.num_items, num_threads, [&](int64_t i, int t) { run_forward(forward, i, i + 1, mine(t)); });
    run_items(back.num_items, num_threads,
              [&](int64_t i, int t) { run_backward(backward, i, i + 1, mine(t), aligned_span(workspace)); });
    run_items(back.num_finish_items, num_threads,
              [&](int64_t i, int) { finish_backward(backward, i, i + 1, aligned_span(workspace)); });
  }
  return {doubles_of(out),    doubles_of(lse),       doubles_of(grad_q),    doubles_of(grad_k),
          doubles_of(grad_v), doubles_of(grad_pair), doubles_of(grad_mask), doubles_of(grad_logits)};
}

// Largest absolute difference; infinite if anything but an equal infinity is not finite.
inline double error(const Numbers& got, const Numbers& expected) {
  double worst = got.size() == expected.size() ? 0 : INFINITY;
  for (size_t i = 0; i < std::min(got.size(), expected.size()); ++i) {
    if (got[i] == expected[i]) continue;
    const double difference = std::abs(got[i] - expected[i]);
    worst = std::isfinite(difference) ? std::max(worst, difference) : INFINITY;
  }
  return worst;
}
inline double largest(const Numbers& numbers) {
  double worst = 0;
  for (const double number : numbers) {
    if (std::isfinite(number)) worst = std::max(worst, std::abs(number));
  }
  return worst;
}

}  // namespace longfold::kernels
