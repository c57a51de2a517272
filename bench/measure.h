// What is measured of one shape: times of all contenders in turn, memory, errors against fp64.
#pragma once

#include <vector>

#include "bench/contenders.h"
#include "longfold/memory/meter.h"

namespace longfold::bench {

struct Spread {
  double median = 0, least = 0, most = 0;
};

struct Times {
  Spread forward, both;  // milliseconds
};

// One entry for each contender. They take turns, `repeats` times after a warm-up.
[[nodiscard]] std::vector<Times> measure_times(const Shape& shape, int repeats);

// longfold alone, with one thread and with `num_threads`, in turn.
struct Scaling {
  Times one, many;
};
[[nodiscard]] Scaling measure_scaling(const Shape& shape, int repeats, int num_threads);

// Bytes of peak beyond the inputs; results and gradients count.
struct Memory {
  int64_t forward = 0, both = 0;
};
[[nodiscard]] std::vector<Memory> measure_memory(const Shape& shape, const memory::MemoryMeter& meter);

// Largest error over the largest exact value, of the output and of all gradients; on a few rows, since fp64 logits of
// all would not fit.
struct Errors {
  double out = 0, grads = 0;
};
[[nodiscard]] std::vector<Errors> measure_errors(const Shape& shape);

}  // namespace longfold::bench
