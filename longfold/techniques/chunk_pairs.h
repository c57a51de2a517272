// Attention in parts: chunks of the tokens of B rows, what queries of one see of the keys of an earlier one, and how
// partial results become one (Milakov and Gimelshein 2018).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "longfold/model/attention.h"

namespace longfold::techniques {

struct Chunk {
  int64_t begin = 0, count = 0;  // tokens of each row
};
// All but the last have chunk_tokens.
[[nodiscard]] std::vector<Chunk> chunks_of(int64_t num_tokens, int64_t chunk_tokens);

// The documents of a chunk alone, of rows of S tokens: those that reach over its ends are cut there.
[[nodiscard]] model::Documents documents_within(const model::Documents& documents, const Chunk& chunk, int64_t B,
                                                int64_t S, at::Device device);

// Some rows' first queries of a chunk, which see all of some rows' last keys of an earlier chunk: of all documents only
// one in a row is in both.
struct Rectangle {
  int64_t first_row, num_rows, num_queries, first_key;

  [[nodiscard]] at::Tensor of_queries(const at::Tensor& x) const;  // [B, L, ...]
  [[nodiscard]] at::Tensor of_keys(const at::Tensor& x) const;
  [[nodiscard]] model::Attended of_queries(const model::Attended& all) const;
  [[nodiscard]] model::Qkv of(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) const;
};
// One for all rows where each is one document, else one for each row that has such a document.
[[nodiscard]] std::vector<Rectangle> rectangles(const model::Documents& documents, const Chunk& queries,
                                                const Chunk& keys, int64_t B, int64_t S);

// What some queries gave so far, in a type for sums, and what they gave with other keys: sum becomes that of both.
void merge(model::Attended& sum, const model::Attended& other);
[[nodiscard]] model::Attended narrow(const model::Attended& all, int64_t begin, int64_t count);
// fp32, of fp64 fp64.
[[nodiscard]] at::ScalarType sum_type(const at::Tensor& x);
[[nodiscard]] at::Tensor zeros_for_sum(const at::Tensor& x);

}  // namespace longfold::techniques
