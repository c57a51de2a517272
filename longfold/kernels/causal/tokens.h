// The queries and keys of one document, and which see which.
#pragma once

#include <algorithm>

#include "longfold/kernels/causal_attention.h"

namespace longfold::kernels {

// Query s stands at the place first_query + s among the keys, and sees none behind that place.
struct CausalTokens {
  int64_t queries = 0;
  int64_t keys = 0;
  int64_t first_query = 0;

  // The queries before `query` see keys before this one.
  [[nodiscard, gnu::always_inline]] constexpr int64_t end_key(int64_t query) const {
    return std::min(first_query + query, keys);
  }
};

// Where a row has other numbers of queries and keys it is one document.
template <class Args>
[[nodiscard, gnu::always_inline]] inline CausalTokens tokens_of(const Args& args, size_t document) {
  const int64_t queries = args.documents[document + 1] - args.documents[document];
  const int64_t keys = queries + args.k.sizes[1] - args.q.sizes[1];
  return {queries, keys, std::min(args.first_query, keys)};  // behind all keys is behind all keys, however far
}

}  // namespace longfold::kernels
