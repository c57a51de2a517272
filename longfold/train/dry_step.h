// What a training step takes, without taking it: the step runs on shapes alone (memory/dry_run.h), in the time that its
// operators take to be called.
#pragma once

#include <cstdint>
#include <functional>

#include "longfold/memory/dry_run.h"
#include "longfold/parallel/communicator.h"
#include "longfold/techniques/techniques.h"
#include "longfold/train/recipe.h"

namespace longfold::train {

struct StepMemory {
  int64_t device = 0;  // bytes, the most at once; of a GPU what the allocator holds (MemoryMeter::held_peak())
  memory::BytesByTerm by_term{};                                          // what they were for
  int64_t on_host = 0, in_files = 0;                                      // what waits there
  parallel::Traffic traffic;                                              // what a process sends in a step, in all
  int64_t sent_by_ulysses = 0, sent_by_ring = 0, sent_for_gradients = 0;  // of that, bytes
  techniques::HostBytes shelved = {};  // of what is on the host: techniques::make_shelves()
};

// Of a step of rows x tokens, of a process of [parallel] its rows and whole sequences. [compute] is resolved
// (train/device.h), or as it would be on the device it names, which need not be there; model.vocab_size is set.
[[nodiscard]] StepMemory dry_step(const Recipe& recipe, int64_t rows, int64_t tokens);

// What lengths are tried: multiples of `step` up to `most`, until the longest that fits is known to a share of itself.
struct Lengths {
  int64_t step = 64, most = int64_t{1} << 26;
  double share = 0;
};
// The most tokens in a row whose step takes at most `limit` bytes of the device; 0: none. `progress` hears each length
// that is tried.
[[nodiscard]] int64_t longest_sequence(const Recipe& recipe, int64_t rows, int64_t limit, const Lengths& lengths,
                                       const std::function<void(int64_t tokens)>& progress = {});

}  // namespace longfold::train
