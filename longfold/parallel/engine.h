// The engines that carry data between processes. Each is a folder, mpi/, or in builds without it a file, no_mpi.cpp or
// no_nccl.cpp; this header is the same for all builds.
#pragma once

#include <string>

namespace longfold::parallel {

struct Engine {
  std::string name;
  bool built = false;
  std::string why_not;  // empty if built
};

[[nodiscard]] Engine mpi_engine();
[[nodiscard]] Engine nccl_engine();

// Throws base::UserError, `[mpi] ...`, unless the engine that `num_processes` processes need is there. A single process
// needs none.
void require_engine(const Engine& engine, int num_processes);

}  // namespace longfold::parallel
