// What the hardware leaves open, and a test chooses.
#pragma once

#include <cstdint>

namespace longfold::simt {

enum class Order : uint8_t { kAscending, kDescending, kShuffled };  // of blocks, warps and lanes

// kEarliest: a copy reads and writes where it is issued. kLatest: when nobody can go on without it. What is allowed to
// read it is the same.
enum class Delivery : uint8_t { kEarliest, kLatest };

// Of products of matrices. kExact: rounded to fp32 once. kCut: as tensor cores are known to add, each term cut to 24
// bits counted from the largest one's first, and the sum to fp32 (Fasi et al., 2021,
// https://doi.org/10.7717/peerj-cs.330).
enum class Sums : uint8_t { kExact, kCut };

struct Mode {
  Order order = Order::kAscending;
  Delivery delivery = Delivery::kEarliest;
  uint64_t seed = 0;  // of kShuffled
  Sums sums = Sums::kExact;
};

}  // namespace longfold::simt
