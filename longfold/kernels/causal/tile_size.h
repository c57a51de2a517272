// Block sizes of causal attention on the CPU, and how a call is cut into items. Pure functions of the shape: no bits of
// a result depend on the number of threads. Always inlined: see cpu/simd.h on functions shared by units.
#pragma once

#include <algorithm>

#include "longfold/kernels/panels.h"

namespace longfold::kernels {

struct CausalShape {
  int64_t B, S, H, KV, D;
};

constexpr int64_t kCausalKeys = 64;          // keys in a block: with it, a panel's diagonal is one block
constexpr int64_t kCausalPanels = 2;         // forward: panels that share each block of keys while it is in the cache
constexpr int64_t kFewestChunkTokens = 256;  // backward: squares of fewer would load panels more often than they use
constexpr int64_t kMostChunkTokens = 1024;   // them; of more would leave threads idle in documents of 16K
constexpr int64_t kMostChunks = 256;         // in one document, whatever its length: the plan stays small
constexpr int64_t kCausalKeyBytes = 256 << 10;  // backward: keys, values and sums of their gradients, a part of an L2
constexpr int64_t kEnoughSquares = 64;          // of one colour, to keep a large machine's threads busy
constexpr int64_t kCausalTokens = 512;          // in an item that begins, or ends, the sums of a head

[[nodiscard, gnu::always_inline]] constexpr int64_t causal_width(const CausalShape& shape) {
  return round_up(shape.D, kWidestVector);
}

// Groups of panels in a document of so many tokens.
[[nodiscard, gnu::always_inline]] constexpr int64_t num_panel_groups(int64_t tokens) {
  return divide_up(tokens, kCausalPanels * kLanes);
}

// Tokens in a chunk of a document: a sixteenth of it, within bounds.
[[nodiscard, gnu::always_inline]] constexpr int64_t chunk_tokens(int64_t tokens) {
  const int64_t wanted = std::clamp(tokens / 16, kFewestChunkTokens, kMostChunkTokens);
  return round_up(std::max(wanted, divide_up(tokens, kMostChunks)), kLanes);
}

// Keys of a chunk whose gradients are summed in scratch at a time.
[[nodiscard, gnu::always_inline]] constexpr int64_t keys_at_once(const CausalShape& shape) {
  return std::max<int64_t>(1, kCausalKeyBytes / (4 * 4 * causal_width(shape) * kCausalKeys)) * kCausalKeys;
}

// Squares of a document's chunks: queries of chunk i see keys of chunks j <= i, within the window if there is one.
//
// (i + j) mod n is a colour that no two squares of one row or of one column share, and all n colours have as many
// squares but for one. A narrow window leaves a band, for which i - j is such a colour.
struct ChunkGrid {
  int64_t num_chunks;
  int64_t band;  // chunks before its own that a query may see

  [[gnu::always_inline]] constexpr ChunkGrid(int64_t tokens, int64_t window)
      : num_chunks(divide_up(tokens, chunk_tokens(tokens))),
        band(window == 0 ? num_chunks : std::min(num_chunks, divide_up(window - 1, chunk_tokens(tokens)))) {}

  [[nodiscard, gnu::always_inline]] constexpr int64_t first_k_chunk(int64_t q_chunk) const {
    return std::max<int64_t>(0, q_chunk - band);
  }
  [[nodiscard, gnu::always_inline]] constexpr bool is_narrow() const { return 2 * (band + 1) <= num_chunks; }
  [[nodiscard, gnu::always_inline]] constexpr int64_t num_colours() const {
    return is_narrow() ? band + 1 : num_chunks;
  }
  [[nodiscard, gnu::always_inline]] constexpr int64_t colour(int64_t q_chunk, int64_t k_chunk) const {
    return is_narrow() ? q_chunk - k_chunk : (q_chunk + k_chunk) % num_chunks;
  }
};

}  // namespace longfold::kernels
