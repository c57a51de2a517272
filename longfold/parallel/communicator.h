// A group of processes that exchange tensors. A value: it is passed on, never looked up. Of one process, all that it
// does is the identity.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>

#include <cstdint>
#include <memory>
#include <vector>

namespace longfold::parallel {

// What went over the wire, and how long somebody waited for it, of one process in a group. In a dry run bytes and calls
// are those of the real one.
struct Traffic {
  int64_t bytes_sent = 0;  // to other processes, by this one
  int64_t calls = 0;
  double seconds_waited = 0;

  Traffic& operator+=(const Traffic& other) {
    bytes_sent += other.bytes_sent, calls += other.calls, seconds_waited += other.seconds_waited;
    return *this;
  }
};

// An exchange under way. Its tensors must not be touched before wait(); it keeps them.
class Pending {
 public:
  Pending() = default;  // done
  Pending(c10::intrusive_ptr<c10d::Work> work, std::vector<at::Tensor> tensors, std::shared_ptr<Traffic> traffic);
  // base::RunError where a process is missing.
  void wait();

 private:
  c10::intrusive_ptr<c10d::Work> work_;
  std::vector<at::Tensor> tensors_;
  std::shared_ptr<Traffic> traffic_;
};

// All tensors are contiguous, else c10::Error. All processes of the group call the same functions in the same order,
// with tensors of the same sizes: that they are is not checked.
class Communicator {
 public:
  Communicator() = default;
  explicit Communicator(c10::intrusive_ptr<c10d::Backend> backend);
  // Of a dry run: tensors without data (meta) go nowhere, and what an exchange would take is allocated.
  static Communicator dry(int64_t rank, int64_t size);

  [[nodiscard]] int64_t rank() const { return rank_; }
  [[nodiscard]] int64_t size() const { return size_; }
  [[nodiscard]] bool is_alone() const { return size() == 1; }

  // The sum of all processes' x, in place; the same bits everywhere. 16-bit types are summed in fp32 and rounded once.
  [[nodiscard]] Pending all_reduce(const at::Tensor& x) const;
  // out [P, in...]: everybody's, in the order of ranks.
  [[nodiscard]] Pending all_gather(const at::Tensor& out, const at::Tensor& in) const;
  // in [P, out...]: process p gets the sum of all in[p].
  [[nodiscard]] Pending reduce_scatter(const at::Tensor& out, const at::Tensor& in) const;
  // in[p] goes to process p, out[p] came from it; [P, ...] both.
  [[nodiscard]] Pending all_to_all(const at::Tensor& out, const at::Tensor& in) const;
  // Everybody's x becomes that of `root`.
  [[nodiscard]] Pending broadcast(const at::Tensor& x, int64_t root) const;
  // `in` goes to process rank + by, `out` comes from rank - by, around.
  [[nodiscard]] Pending shift(const at::Tensor& out, const at::Tensor& in, int64_t by) const;
  // Waits for all of them, for as long as any exchange may take, or for `timeout_seconds`.
  void barrier(double timeout_seconds = 0) const;

  [[nodiscard]] Traffic traffic() const { return traffic_ ? *traffic_ : Traffic(); }

 private:
  [[nodiscard]] Pending begun(c10::intrusive_ptr<c10d::Work> work, std::vector<at::Tensor> tensors,
                              int64_t bytes_sent) const;
  [[nodiscard]] Pending begun_dry(const at::Tensor& x, int64_t scratch, int64_t bytes_sent) const;

  c10::intrusive_ptr<c10d::Backend> backend_;  // null: one process, or a dry run
  int64_t rank_ = 0, size_ = 1;
  std::shared_ptr<Traffic> traffic_;
};

}  // namespace longfold::parallel
