// A loop over tiles of the tokens of x [B, S, ...].
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>

namespace longfold::techniques {

// Calls f(begin, count) for each tile. Tiles are alike to a dry run (meta), which takes the first two and the last:
// planning a long sequence would else take as many calls as there are tiles.
template <class F>
void for_tiles(const at::Tensor& x, int64_t tile_tokens, F&& f) {
  const int64_t S = x.size(1);
  for (int64_t begin = 0; begin < S; begin += tile_tokens) {
    if (x.is_meta() && begin >= 2 * tile_tokens && begin + tile_tokens < S) continue;
    f(begin, std::min(tile_tokens, S - begin));
  }
}

}  // namespace longfold::techniques
