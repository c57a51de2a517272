// Attention of a sequence that several processes share, by passing keys and values around (Liu et al. 2023), each
// process with an early and a late chunk of tokens so that all have the same work under the causal mask.
#pragma once

#include "longfold/model/attention.h"
#include "longfold/parallel/communicator.h"

namespace longfold::parallelize {

// A core for tokens [B, 2 c, H, D]: of 2 R chunks process r has the r-th from the front and the r-th from the end
// (parallel/sequence_layout.h). `documents` are of the rows of 2 R c tokens. Keys and values of the next process travel
// while those at hand are attended; their gradients travel with them, summed in fp32.
[[nodiscard]] model::SharedCore ring(model::SharedCore core, parallel::Communicator processes);

}  // namespace longfold::parallelize
