// Hands out a thread's scratch, in floats. The same code sizes it (base null) and hands it out.
#pragma once

#include "longfold/kernels/panels.h"

namespace longfold::kernels {
namespace {

struct Bump {
  float* base;
  int64_t used = 0;

  [[gnu::always_inline]] inline float* take(int64_t count) {
    float* at = base == nullptr ? nullptr : base + used;
    used += round_up(count, kWidestVector);
    return at;
  }
  // Rows of keys or values; packing writes up to a vector past the end.
  [[gnu::always_inline]] inline float* take_rows(int64_t rows, int64_t D) {
    return take((rows + 1) * D + kWidestVector);
  }
};

}  // namespace
}  // namespace longfold::kernels
