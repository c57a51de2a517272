#include "longfold/base/error.h"
#include "longfold/parallel/engine.h"
#include "longfold/parallel/world.h"

namespace longfold::parallel {

Engine mpi_engine() {
  return {.name = "mpi", .built = false, .why_not = "this build has no MPI (make setup installs one)"};
}

std::unique_ptr<World> mpi_world(double) {
  throw base::UserError("[mpi] " + mpi_engine().why_not);
}

}  // namespace longfold::parallel
