// What the hardware leaves open, and a test chooses.
#pragma once

#include <cstdint>

namespace longfold::simt {

enum class Order : uint8_t { kAscending, kDescending, kShuffled };  // of blocks, warps and lanes

// kEarliest: a copy reads and writes where it is issued. kLatest: when nobody can go on without it. What is allowed to
// read it is the same.
enum class Delivery : uint8_t { kEarliest, kLatest };

struct Mode {
  Order order = Order::kAscending;
  Delivery delivery = Delivery::kEarliest;
  uint64_t seed = 0;  // of kShuffled
};

}  // namespace longfold::simt
