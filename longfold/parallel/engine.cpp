#include "longfold/parallel/engine.h"

#include "longfold/base/error.h"

namespace longfold::parallel {

void require_engine(const Engine& engine, int num_processes) {
  if (num_processes <= 1 || engine.built) return;
  throw base::UserError("[" + engine.name + "] this is one of " + std::to_string(num_processes) + " processes, but " +
                        engine.why_not + ": start a single process");
}

}  // namespace longfold::parallel
