// torch's collectives over MPI, made of messages from process to process: sums then have one order, whatever library is
// there, and any type and size travels (MPI has no bf16, and counts in int). Tensors of a GPU go by way of the host.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <vector>

#include "longfold/parallel/mpi/progress.h"

namespace longfold::parallel::mpi {

class Backend final : public c10d::Backend {
 public:
  // `world_ranks`: of the group's processes, of which this one is the `rank`-th.
  Backend(std::shared_ptr<Progress> progress, MPI_Comm comm, int rank, std::vector<int64_t> world_ranks);

  const std::string getBackendName() const override { return "longfold-mpi"; }

  c10::intrusive_ptr<c10d::Work> allreduce(std::vector<at::Tensor>& tensors,
                                           const c10d::AllreduceOptions& options) override;
  c10::intrusive_ptr<c10d::Work> _allgather_base(at::Tensor& out, at::Tensor& in,
                                                 const c10d::AllgatherOptions& options) override;
  c10::intrusive_ptr<c10d::Work> _reduce_scatter_base(at::Tensor& out, at::Tensor& in,
                                                      const c10d::ReduceScatterOptions& options) override;
  c10::intrusive_ptr<c10d::Work> alltoall_base(at::Tensor& out, at::Tensor& in, std::vector<int64_t>& out_splits,
                                               std::vector<int64_t>& in_splits,
                                               const c10d::AllToAllOptions& options) override;
  c10::intrusive_ptr<c10d::Work> broadcast(std::vector<at::Tensor>& tensors,
                                           const c10d::BroadcastOptions& options) override;
  c10::intrusive_ptr<c10d::Work> barrier(const c10d::BarrierOptions& options) override;

 private:
  // What travels between the hosts, and what is to be done with it when it is there.
  struct Staged {
    at::Tensor in, out;  // on the host
    std::function<void()> at_wait;
  };
  [[nodiscard]] static Staged staged(const at::Tensor& out, const at::Tensor& in);
  [[nodiscard]] c10::intrusive_ptr<c10d::Work> start(const char* what, const at::Tensor& x, std::vector<Stage> stages,
                                                     std::function<void()> at_wait, double timeout_seconds = 0);
  [[nodiscard]] c10::intrusive_ptr<c10d::Work> sum(const at::Tensor& x, double timeout_seconds);
  // Everybody's part of `in` for this process, summed into `out`. Parts are elements of `in`, flat.
  struct Part {
    int64_t begin, count;
  };
  [[nodiscard]] Stage sum_parts(const at::Tensor& in, const std::vector<Part>& parts, const at::Tensor& out) const;

  std::shared_ptr<Progress> progress_;
  Exchange::Group group_;
  int next_tag_ = 0;
};

}  // namespace longfold::parallel::mpi
