// Which process has which tokens of a sequence that several of them share. Whatever belongs to tokens is cut by it:
// nothing else knows where a token is.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace longfold::parallel {

struct Range {
  int64_t begin = 0, end = 0;  // tokens of the whole sequence
  [[nodiscard]] int64_t count() const { return end - begin; }
  friend bool operator==(const Range&, const Range&) = default;
};

// Sequences of `length` tokens over ring x ulysses processes. Of R ring positions each has two of 2 R chunks, the r-th
// from the front and the r-th from the end ("zigzag"): under a causal mask all then have the same work. A ring
// position's tokens are cut once more for the Ulysses positions, in order. Lengths that do not divide are padded.
class SequenceLayout {
 public:
  SequenceLayout(int64_t length, int64_t ring, int64_t ulysses);

  [[nodiscard]] int64_t length() const { return length_; }
  [[nodiscard]] int64_t padded_length() const { return chunk_ * num_chunks(); }
  [[nodiscard]] int64_t local_length() const { return padded_length() / (ring_ * ulysses_); }
  [[nodiscard]] bool is_whole() const { return ring_ * ulysses_ == 1; }

  // In the order in which a process has them; `position` is ring position * ulysses + Ulysses position.
  [[nodiscard]] std::vector<Range> ranges(int64_t position) const;
  // The chunks of a ring position, all its Ulysses positions together: one, or two of them.
  [[nodiscard]] std::vector<Range> ring_chunks(int64_t ring_position) const;

  // x [B, length, ...] -> the tokens of a process [B, local_length, ...]; `padding` in those that are none.
  [[nodiscard]] at::Tensor local(const at::Tensor& x, int64_t position, const at::Scalar& padding) const;

 private:
  [[nodiscard]] int64_t num_chunks() const { return ring_ == 1 ? 1 : 2 * ring_; }

  int64_t length_, ring_, ulysses_, chunk_;
};

}  // namespace longfold::parallel
