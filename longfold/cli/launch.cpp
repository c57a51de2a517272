#include "longfold/cli/launch.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "longfold/base/error.h"
#include "longfold/parallel/engine.h"

namespace longfold::cli {
namespace {

// The largest of these variables that are numbers.
std::optional<int> number_in(std::initializer_list<const char*> names) {
  std::optional<int> largest;
  for (const char* name : names) {
    const char* value = std::getenv(name);
    if (value == nullptr) continue;
    const std::string_view text = value;
    int number = 0;
    if (std::from_chars(text.data(), text.data() + text.size(), number).ec != std::errc()) continue;
    largest = std::max(largest.value_or(number), number);
  }
  return largest;
}

}  // namespace

// Open MPI; MPICH and its kin; a Slurm job step (srun), not the batch script around it.
int num_launched_processes() {
  return std::max(1, number_in({"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}).value_or(1));
}

int launched_rank() {
  if (num_launched_processes() == 1) return 0;
  return number_in({"OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"}).value_or(0);
}

std::unique_ptr<parallel::World> launched_world(double timeout_seconds) {
  const int started = num_launched_processes();
  parallel::require_engine(parallel::mpi_engine(), started);
  if (started == 1) return parallel::one_process();
  auto world = parallel::mpi_world(timeout_seconds);
  if (world->size() != started) {
    throw base::UserError("[mpi] " + std::to_string(started) + " processes were started, but MPI knows of " +
                          std::to_string(world->size()) +
                          ": start them with the mpirun of the MPI that this program was built with");
  }
  return world;
}

void set_threads(const train::ComputeConfig& compute) {
  int threads = static_cast<int>(compute.threads);
  const int here = num_launched_processes() == 1 ? 1
                                                 : number_in({"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"})
                                                       .value_or(number_in({"SLURM_NTASKS_PER_NODE"}).value_or(1));
  if (threads == 0 && here > 1 && std::getenv("OMP_NUM_THREADS") == nullptr) {
    threads = std::max(1, at::get_num_threads() / here);
  }
  if (threads > 0) at::set_num_threads(threads);
}

}  // namespace longfold::cli
