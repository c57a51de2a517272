// Attention of a sequence that several processes share, by exchanging tokens for heads (DeepSpeed-Ulysses, Jacobs et
// al. 2023): each process attends to all tokens with its share of the heads.
#pragma once

#include "longfold/model/attention.h"
#include "longfold/parallel/communicator.h"

namespace longfold::parallelize {

// A core for tokens [B, s, H, D] of which each process has as many, in the order of ranks. H is a multiple of the
// processes. Of fewer heads of keys than processes each goes to several; more are a multiple too. `documents` and what
// `core` gets are of the processes' tokens together. Nothing is kept between the passes but what goes in and out.
[[nodiscard]] model::SharedCore ulysses(model::SharedCore core, parallel::Communicator processes);

}  // namespace longfold::parallelize
