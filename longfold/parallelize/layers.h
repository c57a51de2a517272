// A model's layers for a mesh of processes: the model itself does not know of it.
#pragma once

#include "longfold/model/layers.h"
#include "longfold/parallel/mesh.h"

namespace longfold::parallelize {

// Attention is shared along ring and ulysses. Tokens and documents are as parallel::SequenceLayout cuts them, documents
// those of whole padded rows. Memory techniques come before: what they put in the place of attention is shared too.
[[nodiscard]] model::Layers across_processes(model::Layers layers, const parallel::Mesh& mesh);

}  // namespace longfold::parallelize
