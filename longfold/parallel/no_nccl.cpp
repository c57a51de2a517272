#include "longfold/parallel/engine.h"

namespace longfold::parallel {

Engine nccl_engine() {
  return {.name = "nccl", .built = false, .why_not = "this version trains on one CPU machine"};
}

}  // namespace longfold::parallel
