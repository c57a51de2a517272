#include "longfold/cli/launch.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <string_view>

namespace longfold::cli {

int num_launched_processes() {
  int num_processes = 1;
  // Open MPI; MPICH and its kin; a Slurm job step (srun), not the batch script around it.
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}) {
    const char* value = std::getenv(name);
    if (value == nullptr) continue;
    const std::string_view text = value;
    int count = 1;
    std::from_chars(text.data(), text.data() + text.size(), count);
    num_processes = std::max(num_processes, count);
  }
  return num_processes;
}

}  // namespace longfold::cli
