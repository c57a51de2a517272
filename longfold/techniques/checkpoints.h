// Activation checkpointing (Chen et al. 2016): a group of blocks keeps its input alone, or with it what attention gave,
// and backward runs the rest again. What is kept may wait on a shelf.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "longfold/techniques/parameter_stream.h"
#include "longfold/techniques/pieces.h"
#include "longfold/techniques/shelf.h"

namespace longfold::techniques {

struct CheckpointOptions {
  int64_t every = 1;             // blocks in a group
  bool keeps_attention = false;  // and its log-sum-exp: backward does not attend again
  std::shared_ptr<Shelf> shelf;
  std::shared_ptr<ParameterStream> parameters = nullptr;  // null: they stay on the device
};

// What to run in place of the blocks.
[[nodiscard]] std::vector<model::BlockForward> with_checkpoints(std::vector<Pieces> blocks,
                                                                const CheckpointOptions& options);

}  // namespace longfold::techniques
