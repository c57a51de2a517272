#include "longfold/train/batches_ahead.h"

#include <c10/util/Exception.h>
#include <omp.h>

#include <chrono>

namespace longfold::train {

BatchesAhead::BatchesAhead(const data::Sampler& sampler, int64_t num_batches, int64_t first, int64_t end)
    : sampler_(sampler), num_batches_(num_batches), next_(first), end_(end) {
  begin_to_read();
}

void BatchesAhead::begin_to_read() {
  if (next_ >= end_) return;
  batches_ = std::async(std::launch::async, [this, step = next_] {
    omp_set_num_threads(1);  // of this thread alone: the others belong to the step that computes
    std::vector<data::Batch> batches;
    for (int64_t i = 0; i < num_batches_; ++i) batches.push_back(sampler_.batch(step * num_batches_ + i));
    return batches;
  });
}

std::vector<data::Batch> BatchesAhead::take() {
  TORCH_CHECK(next_ < end_, "[batches_ahead] expected a step before ", end_, ", got ", next_);
  const auto start = std::chrono::steady_clock::now();
  std::vector<data::Batch> batches = batches_.get();
  seconds_waited_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  ++next_;
  begin_to_read();
  return batches;
}

}  // namespace longfold::train
