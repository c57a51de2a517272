#include "bench/fma_peak.h"

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace longfold::bench {
namespace {

#if defined(__AVX512F__)
constexpr int kFloats = 16, kChains = 24;
#elif defined(__AVX2__)
constexpr int kFloats = 8, kChains = 12;
#else
constexpr int kFloats = 4, kChains = 12;
#endif
using Vec [[gnu::vector_size(kFloats * 4)]] = float;

}  // namespace

double fma_peak_of_one_thread() {
  constexpr int64_t kSteps = 200'000;
  double best = 0;
  for (int repeat = 0; repeat < 20; ++repeat) {
    Vec chains[kChains];
    for (int i = 0; i < kChains; ++i) chains[i] = Vec{} + static_cast<float>(i);  // equal ones would be computed once
    const Vec factor = Vec{} + 0.999f, term = Vec{} + 1e-3f;
    const auto start = std::chrono::steady_clock::now();
    for (int64_t step = 0; step < kSteps; ++step) {
#pragma GCC unroll 24
      for (Vec& chain : chains) chain = chain * factor + term;
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    Vec sum{};
    for (const Vec& chain : chains) sum += chain;
    volatile float keep = sum[0];  // or the compiler drops the loop
    static_cast<void>(keep);
    best = std::max(best, 2.0 * kFloats * kChains * kSteps / seconds.count());
  }
  return best;
}

}  // namespace longfold::bench
