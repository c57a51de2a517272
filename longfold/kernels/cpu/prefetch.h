// Memory that will be needed soon, asked for a few rows at a time between tiles. Rows of one head lie H * D elements
// apart, which hardware does not foresee; and asking for many at once would wait just as reading them does.
#pragma once

#include <cstdint>

#include "longfold/kernels/cpu/pack.h"

namespace longfold::kernels {
namespace {

class Prefetcher {
 public:
  void clear() {
    num_ranges_ = 0;
    next_ = 0;
    rows_ = 0;
    rate_ = 0;
  }

  // Rows [begin, end) of a matrix with D columns. Further ranges than there is room for are left out.
  template <class T>
  void add(Matrix<T> from, int64_t begin, int64_t end, int64_t D) {
    if (begin >= end || num_ranges_ == kMostRanges) return;
    const int64_t bytes = from.inner_stride == 1 ? D * static_cast<int64_t>(sizeof(T)) : 1;
    ranges_[num_ranges_++] = {.at = reinterpret_cast<const char*>(from.data + begin * from.row_stride),
                              .stride = from.row_stride * static_cast<int64_t>(sizeof(T)),
                              .rows = end - begin,
                              .bytes = bytes};
    rows_ += end - begin;
  }

  // So many calls of step() will follow: num_score_tiles (products.h) of the tile height that they come with.
  void spread(int64_t steps) { rate_ = (rows_ + steps - 1) / steps; }

  LONGFOLD_INLINE void step() {
    for (int64_t row = 0; row < rate_ && next_ < num_ranges_; ++row) {
      Range& range = ranges_[next_];
      const char* end = range.at + range.bytes;
      const auto into_line = static_cast<int64_t>(reinterpret_cast<uintptr_t>(range.at) % kLine);
      for (const char* line = range.at - into_line; line < end; line += kLine) __builtin_prefetch(line, 0, 3);
      range.at += range.stride;
      if (--range.rows == 0) ++next_;
    }
  }

 private:
  static constexpr int64_t kLine = 64;
  static constexpr int kMostRanges = 10;

  struct Range {
    const char* at;
    int64_t stride;
    int64_t rows;
    int64_t bytes;
  };
  Range ranges_[kMostRanges];
  int num_ranges_ = 0;
  int next_ = 0;
  int64_t rows_ = 0;
  int64_t rate_ = 0;
};

struct NoPrefetch {
  LONGFOLD_INLINE void step() {}
};

}  // namespace
}  // namespace longfold::kernels
