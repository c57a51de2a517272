// One document of a call, and blocks of its keys and values as words that products read.
#pragma once

#include "longfold/kernels/causal/tokens.h"
#include "longfold/kernels/cpu/pack.h"

namespace longfold::kernels {
namespace {

// Queries and keys are counted from its first of each.
struct Document {
  CausalTokens tokens;
  int64_t b = 0, s = 0;  // row, and the first token there
  int64_t window = 0;    // 0: none

  template <class Args>
  Document(const Args& args, int64_t index)
      : tokens(tokens_of(args, static_cast<size_t>(index))),
        b(args.documents[static_cast<size_t>(index)] / args.q.sizes[1]),
        s(args.documents[static_cast<size_t>(index)] % args.q.sizes[1]),
        window(args.window >= tokens.queries ? 0 : args.window) {}

  // Keys that some query from `query` on sees, from the first of its block on.
  [[nodiscard]] int64_t first_key(int64_t query) const {
    if (window == 0 || query < window) return 0;
    return (query - window + 1) / kCausalKeys * kCausalKeys;
  }
  // Behind the keys that some query before this one sees.
  [[nodiscard]] int64_t end_key(int64_t query) const { return tokens.end_key(query); }
  // A key's distance from the place of a query.
  [[nodiscard]] int64_t distance(int64_t key, int64_t query) const { return key - tokens.first_query - query; }

  // Rows from a token on, of one head of a tensor [B, S, H, D].
  template <class T>
  [[nodiscard]] Matrix<T> rows(const TensorView<T, 4>& from, int64_t token, int64_t head) const {
    return {from.at(b, s + token, head), from.strides[1], from.strides[3]};
  }
};

// Words of rows, packed into the buffer unless they lie in memory as products read them; whole vectors are read.
template <class T>
const float* row_words(Matrix<const T> from, int64_t count, int64_t D, float* buffer) {
  if constexpr (std::is_same_v<T, float>) {
    if (from.inner_stride == 1 && from.row_stride == D && D % kWidestVector == 0) return from.data;
  }
  pack_rows<kPack<T>>(from, count, D, buffer);
  return buffer;
}

// The same in pairs of neighbouring rows.
template <class T>
const float* row_pair_words(Matrix<const T> from, int64_t count, int64_t D, float* buffer) {
  if constexpr (kPack<T> == 1) return row_words(from, count, D, buffer);
  pack_row_pairs<kPack<T>>(from, count, D, buffer);
  return buffer;
}

}  // namespace
}  // namespace longfold::kernels
