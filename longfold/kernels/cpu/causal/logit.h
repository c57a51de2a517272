// Logits from products of queries and keys: scaled after the product, for the sake of digits; minus infinity, whose
// weight is exactly zero, where the query does not see the key.
#pragma once

#include <array>
#include <limits>

#include "longfold/kernels/causal/tile_size.h"
#include "longfold/kernels/cpu/tile.h"

namespace longfold::kernels {
namespace {

constexpr auto kLaneNumbers = [] {
  std::array<float, kLanes> numbers{};
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>(i);
  return numbers;
}();

// Keys and queries are counted from the place of the panel's first query: lane i sees keys j with i - window < j <= i.
template <bool HasDiagonal, bool HasWindow>
struct CausalLogit {
  Vec scale;
  int64_t first_key;
  int64_t window;

  template <int R, int C>
  LONGFOLD_INLINE Vec operator()(const Tile<R, C>& tile, int r, int c, int64_t key, int64_t lane) const {
    Vec s = tile.acc[r][c] * scale;
    if constexpr (!HasDiagonal && !HasWindow) return s;
    const Vec lanes = load(kLaneNumbers.data() + lane + c * kWidth);
    const Vec unseen = splat(-std::numeric_limits<float>::infinity());
    const int64_t at = first_key + key + r;
    if constexpr (HasDiagonal) s = select_at_most(splat(static_cast<float>(at)), lanes, s, unseen);
    if constexpr (HasWindow) s = select_at_most(lanes, splat(static_cast<float>(at + window - 1)), s, unseen);
    return s;
  }
};

// Calls body(logit) for the block of keys that begins `first_key` after that place (before it, if negative); window 0
// is none.
template <class Body>
LONGFOLD_INLINE void with_causal_logit(double scale, int64_t first_key, int64_t queries, int64_t window, Body&& body) {
  const Vec factor = splat(static_cast<float>(scale));
  const bool has_diagonal = first_key > -kCausalKeys, has_window = window > 0 && first_key <= queries - 1 - window;
  if (has_diagonal && has_window)
    body(CausalLogit<true, true>{factor, first_key, window});
  else if (has_diagonal)
    body(CausalLogit<true, false>{factor, first_key, window});
  else if (has_window)
    body(CausalLogit<false, true>{factor, first_key, window});
  else
    body(CausalLogit<false, false>{factor, first_key, window});
}

}  // namespace
}  // namespace longfold::kernels
