// Puts what a recipe's [memory] section asks for into a model's layers.
#pragma once

#include "longfold/model/layers.h"
#include "longfold/techniques/config.h"
#include "longfold/techniques/parameter_stream.h"
#include "longfold/techniques/shelf.h"

namespace longfold::techniques {

// Where things wait: what a run keeps for as long as its model.
struct Shelves {
  std::shared_ptr<Shelf> checkpoints, chunks;
  std::shared_ptr<ParameterStream> parameters = nullptr;  // of memory.offload_parameters: whoever has a home makes it
};
// `folder` for files where the section names none; `host_bytes` as a dry run counts them (train/dry_step.h).
struct HostBytes {
  int64_t checkpoints = 0, chunks = 0;
};
[[nodiscard]] Shelves make_shelves(const MemoryConfig& config, const std::string& folder,
                                   const HostBytes& host_bytes = {});

[[nodiscard]] Shelves make_dry_shelves(const MemoryConfig& config);  // for tensors without data: nothing is made

// memory.auto is to be put in place before.
[[nodiscard]] model::Layers with_techniques(model::Layers layers, const MemoryConfig& config, const Shelves& shelves);

}  // namespace longfold::techniques
