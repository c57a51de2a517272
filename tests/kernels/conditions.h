// Threads, cuts and memory under which kernels are called.
#pragma once

#include <algorithm>
#include <cstdint>
#include <thread>
#include <vector>

#include "tests/kernels/placed_tensor.h"

namespace longfold::kernels {

// How the kernels are called. Nothing here may change a bit of the result.
struct Conditions {
  int num_threads = 1;
  int64_t cut_for_threads = 0;  // ForwardArgs::num_threads; 0: as many as there are
  int64_t items_per_call = 1;
  Surroundings surroundings{};
  uint32_t scratch_content = 0xffffffffu;  // NaN in every type
  uint32_t canary = 0xfffafffau;           // another one
};

// Runs items in interleaved shares, the last items first: results must not depend on who does what.
template <class Run>
void run_items(int64_t num_items, const Conditions& conditions, const Run& run) {
  const int64_t per_call = conditions.items_per_call, calls = (num_items + per_call - 1) / per_call;
  const auto share = [&](int t) {
    for (int64_t call = calls - 1 - t; call >= 0; call -= conditions.num_threads) {
      run(call * per_call, std::min((call + 1) * per_call, num_items), t);
    }
  };
  if (conditions.num_threads == 1) return share(0);
  std::vector<std::jthread> threads;
  for (int t = 0; t < conditions.num_threads; ++t) threads.emplace_back(share, t);
}

}  // namespace longfold::kernels
