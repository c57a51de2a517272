#include "longfold/parallelize/layers.h"

#include <utility>

#include "longfold/parallelize/ring.h"
#include "longfold/parallelize/ulysses.h"

namespace longfold::parallelize {

model::Layers across_processes(model::Layers layers, const parallel::Mesh& mesh) {
  // The ring's chunks are those of all heads' tokens, so heads are exchanged first.
  layers.attention = ulysses(ring(std::move(layers.attention), mesh.along(parallel::Axis::kRing)),
                             mesh.along(parallel::Axis::kUlysses));
  return layers;
}

}  // namespace longfold::parallelize
