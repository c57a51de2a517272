// All processes of a run, and groups of them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "longfold/parallel/communicator.h"

namespace longfold::parallel {

class World {
 public:
  World() = default;
  virtual ~World() = default;
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  [[nodiscard]] virtual int64_t rank() const = 0;
  [[nodiscard]] virtual int64_t size() const = 0;
  // Of the processes of these ranks, in this order; this one is among them. They all call it.
  [[nodiscard]] virtual Communicator group(const std::vector<int64_t>& ranks) = 0;
  // Ends all processes at once, with this exit code.
  [[noreturn]] virtual void abort(int exit_code) = 0;
};

// This process alone.
[[nodiscard]] std::unique_ptr<World> one_process();

// Those that mpirun, mpiexec or srun started. A process that waits for another longer than `timeout_seconds` gets a
// base::RunError that names it. base::UserError in builds without MPI. Once in a process.
[[nodiscard]] std::unique_ptr<World> mpi_world(double timeout_seconds);

}  // namespace longfold::parallel
