// Problems in which a bias of bools hides keys.
#pragma once

#include "tests/kernels/attention_problem.h"

namespace longfold::kernels {

// Whole rows packed and by blocks; keys in parts; a slab for all keys and for one block.
inline std::vector<cases::EvoformerCase> hiding_shapes() {
  return {
      {.name = "few_keys", .B = 2, .N = 3, .Lq = 5, .Lk = 7, .H = 2, .D = 5},
      {.name = "two_panels", .B = 1, .N = 4, .Lq = 70, .Lk = 131, .H = 2, .D = 32},
      {.name = "length_first",
       .B = 1,
       .N = 3,
       .Lq = 33,
       .Lk = 65,
       .H = 2,
       .D = 8,
       .layout = cases::Layout::kLengthFirst},
      {.name = "by_blocks", .B = 1, .N = 2, .Lq = 3, .Lk = 1100, .H = 1, .D = 64},
      {.name = "grad_kv_in_parts", .B = 1, .N = 2, .Lq = 3, .Lk = 1100, .H = 1, .D = 128},
      {.name = "long_slab", .B = 1, .N = 2, .Lq = 2, .Lk = 8300, .H = 1, .D = 4},
      {.name = "general_bias",
       .B = 1,
       .N = 3,
       .Lq = 20,
       .Lk = 70,
       .H = 2,
       .D = 16,
       .biases = {{cases::BiasKind::kMask}, {cases::BiasKind::kPair}, {cases::BiasKind::kGeneral}}},
      {.name = "no_other_bias", .B = 1, .N = 3, .Lq = 20, .Lk = 70, .H = 2, .D = 16, .biases = {}},
  };
}

// Random keys, key 2 always shown; none in one of the rows n.
inline Problem hide(Problem p, int64_t row_without_keys) {
  const auto& s = p.shape;
  Numbers shown = random_numbers(DType::kFloat32, s.B * s.N * s.Lk, 1, 3);
  for (int64_t row = 0; row < s.B * s.N; ++row) {
    for (int64_t key = 0; key < s.Lk; ++key) {
      double& value = shown[static_cast<size_t>(row * s.Lk + key)];
      value = row % s.N != row_without_keys && (key == 2 || value > 0) ? 1 : 0;
    }
  }
  p.biases.push_back({cases::BiasKind::kMask, DType::kBool, shown});
  return p;
}

inline bool is_shown(const Problem& p, int64_t b, int64_t n, int64_t key) {
  return p.biases.back().numbers[static_cast<size_t>((b * p.shape.N + n) * p.shape.Lk + key)] != 0;
}

inline bool shows_some_key(const Problem& p, int64_t b, int64_t n) {
  bool shown = false;
  for (int64_t key = 0; key < p.shape.Lk; ++key) shown |= is_shown(p, b, n, key);
  return shown;
}

inline bool is_shown_by_some_row(const Problem& p, int64_t b, int64_t key) {
  bool shown = false;
  for (int64_t n = 0; n < p.shape.N; ++n) shown |= is_shown(p, b, n, key);
  return shown;
}

// k and biases of hidden keys, and the queries that see none, become `garbage`; so do the pair biases of keys that no
// row shows.
inline Problem spoil(Problem p, double garbage) {
  const auto& s = p.shape;
  const auto at = [](int64_t index) { return static_cast<size_t>(index); };
  for (int64_t b = 0; b < s.B; ++b) {
    for (int64_t key = 0; key < s.Lk; ++key) {
      if (is_shown_by_some_row(p, b, key)) continue;
      for (BiasValues& bias : p.biases) {
        if (bias.kind != cases::BiasKind::kPair) continue;
        for (int64_t i = 0; i < s.H * s.Lq; ++i) bias.numbers[at((b * s.H * s.Lq + i) * s.Lk + key)] = garbage;
      }
    }
    for (int64_t n = 0; n < s.N; ++n) {
      for (int64_t key = 0; key < s.Lk; ++key) {
        if (is_shown(p, b, n, key)) continue;
        for (int64_t i = 0; i < s.H * s.D; ++i) p.k[at(((b * s.N + n) * s.Lk + key) * s.H * s.D + i)] = garbage;
        for (BiasValues& bias : p.biases) {
          if (bias.dtype == DType::kBool) continue;
          if (bias.kind == cases::BiasKind::kMask) bias.numbers[at((b * s.N + n) * s.Lk + key)] = garbage;
          for (int64_t i = 0; i < s.H * s.Lq && bias.kind == cases::BiasKind::kGeneral; ++i) {
            bias.numbers[at(((b * s.N + n) * s.H * s.Lq + i) * s.Lk + key)] = garbage;
          }
        }
      }
      if (shows_some_key(p, b, n)) continue;
      for (int64_t i = 0; i < s.Lq * s.H * s.D; ++i) {
        p.q[at((b * s.N + n) * s.Lq * s.H * s.D + i)] = garbage;
      }
    }
  }
  return p;
}

}  // namespace longfold::kernels
