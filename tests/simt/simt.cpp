#include "tests/simt/simt.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

namespace longfold::simt {

void launch_blocks(unsigned num_blocks, unsigned num_threads, size_t shared_bytes, const Mode& mode,
                   std::function<void()> kernel) {
  if (num_blocks < 1) throw Error("a launch expected at least one block, got none");
  if (num_threads < kLanes || num_threads > kMostThreads || num_threads % kLanes != 0) {
    throw Error("a launch expected whole warps of 32 threads, at most " + std::to_string(kMostThreads) + ", got " +
                std::to_string(num_threads));
  }
  if (shared_bytes > kMostSharedBytes) {
    throw Error("a launch expected at most " + std::to_string(kMostSharedBytes) + " bytes of shared memory, got " +
                std::to_string(shared_bytes));
  }
  std::vector<unsigned> blocks(num_blocks);
  std::iota(blocks.begin(), blocks.end(), 0u);
  if (mode.order == Order::kDescending) std::reverse(blocks.begin(), blocks.end());
  if (mode.order == Order::kShuffled) std::shuffle(blocks.begin(), blocks.end(), std::mt19937_64(mode.seed));

  Block block(num_blocks, num_threads, shared_bytes, mode, std::move(kernel));
  for (const unsigned index : blocks) block.run(index);
}

}  // namespace longfold::simt
