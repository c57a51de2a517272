#include "longfold/parallel/engine.h"

namespace longfold::parallel {

Engine mpi_engine() {
  return {.name = "mpi", .built = false, .why_not = "this version trains in one process"};
}

}  // namespace longfold::parallel
