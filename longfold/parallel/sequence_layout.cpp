#include "longfold/parallel/sequence_layout.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace longfold::parallel {

SequenceLayout::SequenceLayout(int64_t length, int64_t ring, int64_t ulysses)
    : length_(length), ring_(ring), ulysses_(ulysses) {
  TORCH_CHECK(length > 0 && ring > 0 && ulysses > 0, "[sequence_layout] expected a length and degrees above 0, got ",
              length, " tokens, ring ", ring, ", ulysses ", ulysses);
  // Both chunks of a ring position together are cut for Ulysses: each has a multiple of its degree.
  const int64_t unit = num_chunks() * ulysses_;
  chunk_ = (length + unit - 1) / unit * ulysses_;
}

std::vector<Range> SequenceLayout::ring_chunks(int64_t ring_position) const {
  const auto chunk = [&](int64_t i) { return Range{i * chunk_, (i + 1) * chunk_}; };
  if (ring_ == 1) return {chunk(0)};
  return {chunk(ring_position), chunk(2 * ring_ - 1 - ring_position)};
}

std::vector<Range> SequenceLayout::ranges(int64_t position) const {
  // Of the ring position's tokens, one chunk after the other, those from `first` to `last`.
  const int64_t first = position % ulysses_ * local_length(), last = first + local_length();
  std::vector<Range> all;
  int64_t before = 0;
  for (const Range& chunk : ring_chunks(position / ulysses_)) {
    const int64_t begin = std::max(first, before), end = std::min(last, before + chunk.count());
    if (begin < end) all.push_back({chunk.begin + begin - before, chunk.begin + end - before});
    before += chunk.count();
  }
  return all;
}

at::Tensor SequenceLayout::local(const at::Tensor& x, int64_t position, const at::Scalar& padding) const {
  TORCH_CHECK(x.dim() >= 2 && x.size(1) == length_, "[sequence_layout] expected [B, ", length_, ", ...], got ",
              x.sizes());
  if (is_whole()) return x;
  std::vector<at::Tensor> parts;
  for (const Range& range : ranges(position)) {
    const int64_t end = std::min(range.end, length_), there = std::max<int64_t>(end - range.begin, 0);
    if (there > 0) parts.push_back(x.narrow(1, range.begin, there));
    if (there == range.count()) continue;
    std::vector<int64_t> sizes = x.sizes().vec();
    sizes[1] = range.count() - there;
    parts.push_back(at::full(sizes, padding, x.options()));
  }
  return at::cat(parts, 1);
}

}  // namespace longfold::parallel
