#include "longfold/techniques/chunk_pairs.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <span>

namespace longfold::techniques {
namespace {

std::span<const int64_t> begins_of(const model::Documents& documents) {
  return {documents.begins->const_data_ptr<int64_t>(), static_cast<size_t>(documents.begins->numel())};
}

}  // namespace

std::vector<Chunk> chunks_of(int64_t num_tokens, int64_t chunk_tokens) {
  std::vector<Chunk> chunks;
  for (int64_t begin = 0; begin < num_tokens; begin += chunk_tokens) {
    chunks.push_back({begin, std::min(chunk_tokens, num_tokens - begin)});
  }
  return chunks;
}

model::Documents documents_within(const model::Documents& documents, const Chunk& chunk, int64_t B, int64_t S,
                                  at::Device device) {
  if (!documents.begins) return model::documents_on(device, {}, B, chunk.count);
  std::vector<int64_t> begins;
  const auto all = begins_of(documents);
  for (int64_t row = 0; row < B; ++row) {
    begins.push_back(row * chunk.count);
    const int64_t first = row * S + chunk.begin;
    for (auto at = std::ranges::upper_bound(all, first); at != all.end() && *at < first + chunk.count; ++at) {
      if (begins.back() != row * chunk.count + *at - first) begins.push_back(row * chunk.count + *at - first);
    }
  }
  begins.push_back(B * chunk.count);
  const at::Tensor of_chunk = at::from_blob(begins.data(), {std::ssize(begins)}, at::kLong).clone();
  return model::documents_on(device, of_chunk, B, chunk.count);
}

at::Tensor Rectangle::of_queries(const at::Tensor& x) const {
  return x.narrow(0, first_row, num_rows).narrow(1, 0, num_queries);
}
at::Tensor Rectangle::of_keys(const at::Tensor& x) const {
  return x.narrow(0, first_row, num_rows).narrow(1, first_key, x.size(1) - first_key);
}
model::Attended Rectangle::of_queries(const model::Attended& all) const {
  return {of_queries(all.out), all.log_sum_exp.narrow(0, first_row, num_rows).narrow(2, 0, num_queries)};
}
model::Qkv Rectangle::of(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) const {
  return {of_queries(q), of_keys(k), of_keys(v)};
}

std::vector<Rectangle> rectangles(const model::Documents& documents, const Chunk& queries, const Chunk& keys, int64_t B,
                                  int64_t S) {
  if (!documents.begins) return {{0, B, queries.count, 0}};
  std::vector<Rectangle> seen;
  const auto all = begins_of(documents);
  for (int64_t row = 0; row < B; ++row) {
    // The document of the last key, counted within the row.
    const auto next = std::ranges::upper_bound(all, row * S + keys.begin + keys.count - 1);
    const int64_t begin = *(next - 1) - row * S, end = *next - row * S;
    if (end <= queries.begin) continue;
    seen.push_back({row, 1, std::min(end - queries.begin, queries.count), std::max<int64_t>(begin - keys.begin, 0)});
  }
  return seen;
}

namespace {

// [B, H, L] as a factor of [B, L, H, D].
at::Tensor factor(const at::Tensor& of_head) {
  return of_head.transpose(1, 2).unsqueeze(3);
}

}  // namespace

void merge(model::Attended& sum, const model::Attended& other) {
  const at::Tensor both = at::logaddexp(sum.log_sum_exp, other.log_sum_exp);
  sum.out.mul_(factor((sum.log_sum_exp - both).exp_()));
  sum.out.add_(other.out * factor((other.log_sum_exp - both).exp_()));
  sum.log_sum_exp.copy_(both);
}

model::Attended narrow(const model::Attended& all, int64_t begin, int64_t count) {
  return {all.out.narrow(1, begin, count), all.log_sum_exp.narrow(2, begin, count)};
}

at::ScalarType sum_type(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

at::Tensor zeros_for_sum(const at::Tensor& x) {
  return at::zeros(x.sizes(), x.options().dtype(sum_type(x)));
}

}  // namespace longfold::techniques
