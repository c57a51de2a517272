// How the process was started, read from the environment that launchers set.
#pragma once

namespace longfold::cli {

// The processes that mpirun, mpiexec or srun started together; 1 without a launcher.
[[nodiscard]] int num_launched_processes();

}  // namespace longfold::cli
