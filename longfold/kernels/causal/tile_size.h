// Block sizes of causal attention on the CPU, and how a call is cut into items. Pure functions of the shape: no bits of
// a result depend on the number of threads. Always inlined: see cpu/simd.h on functions shared by units.
#pragma once

#include <algorithm>

#include "longfold/kernels/causal/tokens.h"
#include "longfold/kernels/panels.h"

namespace longfold::kernels {

struct CausalShape {
  int64_t B, Sq, Sk, H, KV, D;
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

// Groups of panels in a document of so many queries.
[[nodiscard, gnu::always_inline]] constexpr int64_t num_panel_groups(int64_t queries) {
  return divide_up(queries, kCausalPanels * kLanes);
}

// Blocks of kCausalTokens queries, and as many keys, in a row.
[[nodiscard, gnu::always_inline]] constexpr int64_t num_token_blocks(const CausalShape& shape) {
  return divide_up(std::max(shape.Sq, shape.Sk), kCausalTokens);
}

// Tokens in a chunk of a document's queries, or keys: a sixteenth of them, within bounds.
[[nodiscard, gnu::always_inline]] constexpr int64_t chunk_tokens(int64_t tokens) {
  const int64_t wanted = std::clamp(tokens / 16, kFewestChunkTokens, kMostChunkTokens);
  return round_up(std::max(wanted, divide_up(tokens, kMostChunks)), kLanes);
}

// Keys of a chunk whose gradients are summed in scratch at a time.
[[nodiscard, gnu::always_inline]] constexpr int64_t keys_at_once(const CausalShape& shape) {
  return std::max<int64_t>(1, kCausalKeyBytes / (4 * 4 * causal_width(shape) * kCausalKeys)) * kCausalKeys;
}

// Squares of a document's chunks: queries of chunk i see keys of chunks j up to their own place, within the window if
// there is one. Where queries and keys are the same tokens, j <= i.
//
// (i + j) mod n is a colour that no two squares of one row or of one column share, and all n colours have as many
// squares but for one where j <= i. A narrow window leaves a band, for which i - j is such a colour.
struct ChunkGrid {
  CausalTokens tokens;
  int64_t q_chunk, k_chunk;    // tokens in each
  int64_t q_chunks, k_chunks;  // k_chunks: those that any query sees
  int64_t num_chunks;          // the larger number of both
  int64_t band;                // chunks before its own that a query may see

  [[gnu::always_inline]] constexpr ChunkGrid(const CausalTokens& of_document, int64_t window)
      : tokens(of_document),
        q_chunk(chunk_tokens(tokens.queries)),
        k_chunk(chunk_tokens(tokens.keys)),
        q_chunks(divide_up(tokens.queries, q_chunk)),
        k_chunks(divide_up(tokens.end_key(tokens.queries), k_chunk)),
        num_chunks(std::max(q_chunks, k_chunks)),
        band(window == 0 ? num_chunks : std::min(num_chunks, divide_up(window - 1, k_chunk))) {}

  [[nodiscard, gnu::always_inline]] constexpr int64_t first_k_chunk(int64_t i) const {
    return std::max<int64_t>(0, i - band);
  }
  // Behind the last that chunk i of the queries sees.
  [[nodiscard, gnu::always_inline]] constexpr int64_t end_k_chunk(int64_t i) const {
    return divide_up(tokens.end_key(std::min((i + 1) * q_chunk, tokens.queries)), k_chunk);
  }
  [[nodiscard, gnu::always_inline]] constexpr bool is_narrow() const { return 2 * (band + 1) <= num_chunks; }
  [[nodiscard, gnu::always_inline]] constexpr int64_t num_colours() const {
    return is_narrow() ? band + 1 : num_chunks;
  }
  [[nodiscard, gnu::always_inline]] constexpr int64_t colour(int64_t i, int64_t j) const {
    return is_narrow() ? i - j : (i + j) % num_chunks;
  }
};

}  // namespace longfold::kernels
