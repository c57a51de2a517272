// The batches of one step after the other, each read by a thread of its own while the step before it computes.
#pragma once

#include <cstdint>
#include <future>
#include <vector>

#include "longfold/data/sampler.h"

namespace longfold::train {

class BatchesAhead {
 public:
  // Steps `first` (0 for the first of all) to `end`, `num_batches` in each. The sampler must outlive it.
  BatchesAhead(const data::Sampler& sampler, int64_t num_batches, int64_t first, int64_t end);

  // Those of the next step. Throws what reading them threw.
  [[nodiscard]] std::vector<data::Batch> take();
  [[nodiscard]] double seconds_waited() const { return seconds_waited_; }  // in take(), all told

 private:
  void begin_to_read();

  const data::Sampler& sampler_;
  int64_t num_batches_, next_, end_;
  double seconds_waited_ = 0;
  std::future<std::vector<data::Batch>> batches_;  // the last member: it ends before what it reads goes
};

}  // namespace longfold::train
