// How many groups of rows n the pair gradient is summed in, each by blocks of its own: a function of the shape alone.
#pragma once

#include <algorithm>
#include <cstdint>

#include "longfold/kernels/cuda/mma/tile_size.h"
#include "longfold/kernels/evoformer/tile_size.h"

namespace longfold::kernels::cuda::mma {

// As many as fill the multiprocessors of an H100 best, whatever the device is; each costs a plane of H Lq Lk numbers.
constexpr int pair_groups(int64_t batches_and_heads, int64_t num_rows, int64_t num_queries, int64_t num_keys) {
  constexpr int64_t kMultiprocessors = 132, kTile = 128;
  const int64_t tiles = divide_up(num_queries, kTile) * divide_up(num_keys, kTile) * batches_and_heads;
  int best = 1;
  int64_t shortest = 0;
  for (int groups = 1; groups <= std::min<int64_t>(kMostPairGroups, num_rows); ++groups) {
    // The rows that the busiest multiprocessor goes through, and some more for each plane that is written and read
    // again.
    const int64_t waves = divide_up(tiles * groups, kMultiprocessors), rows = divide_up(num_rows, groups);
    const int64_t time = waves * (rows + 4);
    if (groups == 1 || time < shortest) {
      best = groups;
      shortest = time;
    }
  }
  return best;
}

}  // namespace longfold::kernels::cuda::mma
