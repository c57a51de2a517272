// A random attention problem, in fp64 numbers that the dtype under test can hold.
#pragma once

#include <algorithm>
#include <stdexcept>

#include "longfold/kernels/evoformer_attention.h"
#include "tests/cases/evoformer_cases.h"
#include "tests/kernels/numbers.h"

namespace longfold::kernels {

using Sizes5 = std::array<int64_t, 5>;

struct BiasValues {
  cases::BiasKind kind;
  DType dtype;
  Numbers numbers;  // of the shape of its kind
};

struct Problem {
  cases::EvoformerCase shape;
  Numbers q, k, v, grad_out, grad_lse;
  std::vector<BiasValues> biases;
  double scale = 1;
  FullyMasked fully_masked = FullyMasked::kZero;
  bool wants_grad_pair = true, wants_grad_mask = true, has_grad_lse = true;
  bool wants_grad_logits = false;

  // The first bias of that kind.
  [[nodiscard]] Numbers& bias(cases::BiasKind kind) {
    for (BiasValues& bias : biases) {
      if (bias.kind == kind) return bias.numbers;
    }
    throw std::invalid_argument("no bias of that kind");
  }
};

inline Sizes5 sizes_of(cases::BiasKind kind, const cases::EvoformerCase& c) {
  switch (kind) {
    case cases::BiasKind::kMask:
      return {c.B, c.N, 1, 1, c.Lk};
    case cases::BiasKind::kPair:
      return {c.B, 1, c.H, c.Lq, c.Lk};
    case cases::BiasKind::kSharedPair:
      return {c.B, 1, 1, c.Lq, c.Lk};
    case cases::BiasKind::kHeadMask:
      return {c.B, c.N, c.H, 1, c.Lk};
    case cases::BiasKind::kGeneral:
      break;
  }
  return {c.B, c.N, c.H, c.Lq, c.Lk};
}

inline int64_t count_of(const Sizes5& sizes) {
  return sizes[0] * sizes[1] * sizes[2] * sizes[3] * sizes[4];
}

// The first batch's numbers for all of them.
inline void share_batch(Numbers& numbers, int64_t B) {
  const size_t one = numbers.size() / static_cast<size_t>(B);
  for (size_t i = one; i < numbers.size(); ++i) numbers[i] = numbers[i - one];
}

// For T float, bfloat16, float16 and double.
template <class T>
Problem make_problem(const cases::EvoformerCase& c, double bias_std = 1.0, uint64_t seed = 1);

// Rows [begin, end) of numbers [B, N, ...].
inline Numbers rows_of(const Numbers& numbers, int64_t B, int64_t N, int64_t begin, int64_t end) {
  Numbers rows;
  const auto inner = static_cast<int64_t>(numbers.size()) / (B * N);
  for (int64_t b = 0; b < B; ++b) {
    rows.insert(rows.end(), numbers.begin() + (b * N + begin) * inner, numbers.begin() + (b * N + end) * inner);
  }
  return rows;
}

// The same problem for rows [begin, end) alone.
inline Problem rows_of(const Problem& p, int64_t begin, int64_t end) {
  Problem part = p;
  part.shape.N = end - begin;
  for (Numbers* numbers : {&part.q, &part.k, &part.v, &part.grad_out, &part.grad_lse}) {
    *numbers = rows_of(*numbers, p.shape.B, p.shape.N, begin, end);
  }
  for (BiasValues& bias : part.biases) {
    if (sizes_of(bias.kind, p.shape)[1] == p.shape.N && bias.kind != cases::BiasKind::kPair &&
        bias.kind != cases::BiasKind::kSharedPair) {
      bias.numbers = rows_of(bias.numbers, p.shape.B, p.shape.N, begin, end);
    }
  }
  return part;
}

}  // namespace longfold::kernels
