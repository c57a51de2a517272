#include <mpi.h>

#include <cstdlib>
#include <exception>
#include <memory>
#include <utility>

#include "longfold/parallel/engine.h"
#include "longfold/parallel/mpi/backend.h"
#include "longfold/parallel/world.h"

namespace longfold::parallel {
namespace {

class MpiWorld final : public World {
 public:
  explicit MpiWorld(double timeout_seconds) : progress_(std::make_shared<mpi::Progress>(timeout_seconds)) {
    progress_->run([this] {
      int given = 0;
      MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &given);  // all calls are of this thread
      MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
      MPI_Comm_size(MPI_COMM_WORLD, &size_);
    });
  }
  ~MpiWorld() override {
    if (std::uncaught_exceptions() > 0) return;  // the others may never come here
    progress_->run([] { MPI_Finalize(); });
  }

  [[nodiscard]] int64_t rank() const override { return rank_; }
  [[nodiscard]] int64_t size() const override { return size_; }

  [[nodiscard]] Communicator group(const std::vector<int64_t>& ranks) override {
    if (ranks.size() == 1) return {};
    const std::vector<int> members(ranks.begin(), ranks.end());
    MPI_Comm comm = MPI_COMM_NULL;
    int rank = 0;
    progress_->run([&] {
      MPI_Group all = MPI_GROUP_NULL, some = MPI_GROUP_NULL;
      MPI_Comm_group(MPI_COMM_WORLD, &all);
      MPI_Group_incl(all, static_cast<int>(members.size()), members.data(), &some);
      MPI_Comm_create_group(MPI_COMM_WORLD, some, /*tag=*/members.front(), &comm);
      MPI_Comm_rank(comm, &rank);
      MPI_Group_free(&some);
      MPI_Group_free(&all);
    });
    return Communicator(c10::make_intrusive<mpi::Backend>(progress_, comm, rank, ranks));
  }

  [[noreturn]] void abort(int exit_code) override {
    progress_->run([&] { MPI_Abort(MPI_COMM_WORLD, exit_code); });
    std::_Exit(exit_code);
  }

 private:
  std::shared_ptr<mpi::Progress> progress_;
  int rank_ = 0, size_ = 1;
};

}  // namespace

Engine mpi_engine() {
  return {.name = "mpi", .built = true, .why_not = ""};
}

std::unique_ptr<World> mpi_world(double timeout_seconds) {
  return std::make_unique<MpiWorld>(timeout_seconds);
}

}  // namespace longfold::parallel
