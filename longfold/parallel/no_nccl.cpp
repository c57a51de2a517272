#include "longfold/parallel/engine.h"

namespace longfold::parallel {

Engine nccl_engine() {
  return {.name = "nccl", .built = false, .why_not = "this version carries data between processes by MPI alone"};
}

}  // namespace longfold::parallel
