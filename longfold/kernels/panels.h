// What the CPU kernels of both attentions agree on. Always inlined: see cpu/simd.h on functions shared by units.
#pragma once

#include <cstdint>

namespace longfold::kernels {

constexpr int64_t kLanes = 64;         // queries in a panel: one per vector lane, 4 AVX-512 vectors
constexpr int64_t kWidestVector = 16;  // scattered rows are padded to this
constexpr int64_t kLongRow = 1024;     // sums over more queries or keys than this are long sums (cpu/long_sum.h)

[[nodiscard, gnu::always_inline]] constexpr int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}
[[nodiscard, gnu::always_inline]] constexpr int64_t round_up(int64_t a, int64_t b) {
  return divide_up(a, b) * b;
}

}  // namespace longfold::kernels
