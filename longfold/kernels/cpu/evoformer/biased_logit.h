// Logits from products of queries and keys. Scale and biases come after the product: starting from them would cost
// digits where biases are large. Mask before pair, as eager code has it.
#pragma once

#include "longfold/kernels/cpu/evoformer/bias_panel.h"
#include "longfold/kernels/cpu/tile.h"
#include "longfold/kernels/evoformer_attention.h"

namespace longfold::kernels {
namespace {

enum class Masking : uint8_t { kNone, kAdds, kAddsAndHides };

template <bool HasPair, Masking Mask>
struct BiasedLogit {
  Vec scale;
  const float* pair;  // [keys][64]
  MaskRow mask;

  template <int R, int C>
  LONGFOLD_INLINE Vec operator()(const Tile<R, C>& tile, int r, int c, int64_t key, int64_t lane) const {
    constexpr bool kAdds = Mask != Masking::kNone;
    Vec s = kAdds ? fma(tile.acc[r][c], scale, splat(mask.added[key + r])) : tile.acc[r][c] * scale;
    if constexpr (HasPair) s += load(pair + (key + r) * kLanes + lane + c * kWidth);
    if constexpr (Mask == Masking::kAddsAndHides) {
      s = select_at_most(splat(mask.shown[key + r]), Vec{}, splat(kHiddenLogit), s);
    }
    return s;
  }
};

// Calls body(logit) with the BiasedLogit for what is there.
template <class Body>
LONGFOLD_INLINE void with_biases(Vec scale, const float* pair, MaskRow mask, Body&& body) {
  const auto with_mask = [&]<bool HasPair>() LONGFOLD_INLINE_LAMBDA {
    if (mask.shown != nullptr)
      body(BiasedLogit<HasPair, Masking::kAddsAndHides>{scale, pair, mask});
    else if (mask.added != nullptr)
      body(BiasedLogit<HasPair, Masking::kAdds>{scale, pair, mask});
    else
      body(BiasedLogit<HasPair, Masking::kNone>{scale, pair, mask});
  };
  pair != nullptr ? with_mask.template operator()<true>() : with_mask.template operator()<false>();
}

}  // namespace
}  // namespace longfold::kernels
