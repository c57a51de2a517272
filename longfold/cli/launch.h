// How the process was started, read from the environment that launchers set.
#pragma once

#include <memory>

#include "longfold/parallel/world.h"
#include "longfold/train/recipe.h"

namespace longfold::cli {

// The processes that mpirun, mpiexec or srun started together; 1 without a launcher.
[[nodiscard]] int num_launched_processes();
// Which of them this one is; 0 without a launcher.
[[nodiscard]] int launched_rank();

// All of them. UserError where this build has no MPI, or another MPI started them.
[[nodiscard]] std::unique_ptr<parallel::World> launched_world(double timeout_seconds);

// compute.threads, or one for each core, which the processes of this machine share unless OMP_NUM_THREADS says more.
void set_threads(const train::ComputeConfig& compute);

}  // namespace longfold::cli
