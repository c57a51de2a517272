// What the hardware leaves open must change nothing: tests run kernels in all of these.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <vector>

#include "tests/simt/cuda_language.h"
#include "tests/simt/simt.h"

namespace longfold::simt {

inline std::vector<Mode> every_mode() {
  std::vector<Mode> modes;
  for (const Delivery delivery : {Delivery::kEarliest, Delivery::kLatest}) {
    modes.push_back({Order::kAscending, delivery});
    modes.push_back({Order::kDescending, delivery});
    for (uint64_t seed = 0; seed < 4; ++seed) modes.push_back({Order::kShuffled, delivery, seed});
  }
  return modes;
}

// Fails unless run(mode) ends, in every mode, in an Error that contains one of these texts.
template <class Run>
void expect_error(std::initializer_list<const char*> texts, Run run) {
  for (const Mode& mode : every_mode()) {
    try {
      run(mode);
      ADD_FAILURE() << "nothing was noticed, expected '" << *texts.begin() << "'";
    } catch (const Error& error) {
      bool has_one = false;
      for (const char* text : texts) has_one |= std::string(error.what()).find(text) != std::string::npos;
      EXPECT_TRUE(has_one) << "expected '" << *texts.begin() << "', got '" << error.what() << "'";
    }
  }
}

inline constexpr uint32_t kBytes = 1024;

// Blocks of two warps; f(thread, base of 1 KB of shared memory).
template <class F>
void run(const Mode& mode, F f) {
  launch(1, 64, kBytes, mode, [&] { f(static_cast<int>(threadIdx.x), SharedMemory::kBase); });
}
template <class F>
void expect_right(F f) {
  for (const Mode& mode : every_mode()) run(mode, f);
}
template <class F>
void expect_wrong(std::initializer_list<const char*> texts, F f) {
  expect_error(texts, [&](const Mode& mode) { run(mode, f); });
}

}  // namespace longfold::simt
