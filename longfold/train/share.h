// A process's part of a batch that all processes have read.
#pragma once

#include "longfold/data/sampler.h"
#include "longfold/parallel/mesh.h"

namespace longfold::train {

// Its rows along data, and of those its tokens along ring and ulysses (parallel::SequenceLayout). Documents are those
// of its rows, whole and padded. Padding counts in no loss.
struct Share {
  data::Batch batch;
  int64_t first_row = 0;  // of the batch
};
// c10::Error unless the rows divide.
[[nodiscard]] Share share_of(const data::Batch& batch, const parallel::Mesh& mesh);
// Of all rows, whatever the process's place along data: for what all of them evaluate.
[[nodiscard]] data::Batch tokens_of(const data::Batch& batch, const parallel::Mesh& mesh);

}  // namespace longfold::train
