// What a training step takes, without taking it: the step runs on shapes alone (memory/dry_run.h), in the time that its
// operators take to be called.
#pragma once

#include <cstdint>
#include <functional>

#include "longfold/memory/dry_run.h"
#include "longfold/techniques/techniques.h"
#include "longfold/train/recipe.h"

namespace longfold::train {

struct StepMemory {
  int64_t device = 0;                  // bytes, the most at once
  memory::BytesByTerm by_term{};       // what they were for
  techniques::HostBytes on_host = {};  // what waits in the host's memory
  int64_t in_files = 0;
};

// Of a step of rows x tokens. [compute] is resolved (train/device.h), or as it would be on the device it names, which
// need not be there; model.vocab_size is set.
[[nodiscard]] StepMemory dry_step(const Recipe& recipe, int64_t rows, int64_t tokens);

// The most tokens in a row, a multiple of `step`, whose step takes at most `limit` bytes of the device; 0: none. At
// most `most`. `progress` hears each length that is tried.
[[nodiscard]] int64_t longest_sequence(const Recipe& recipe, int64_t rows, int64_t limit, int64_t step, int64_t most,
                                       const std::function<void(int64_t tokens)>& progress = {});

}  // namespace longfold::train
