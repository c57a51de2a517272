// The one thread of a process that calls MPI: it begins exchanges and sees to it that they go on while the others
// compute, since Open MPI moves data mostly inside its own calls.
#pragma once

#include <mpi.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <torch/csrc/distributed/c10d/Work.hpp>
#include <vector>

namespace longfold::parallel::mpi {

struct Message {
  int peer = 0;
  void* data = nullptr;
  int64_t bytes = 0;
};
// Messages that travel together, and what to do when all have arrived.
struct Stage {
  std::vector<Message> sends = {}, receives = {};
  std::function<void()> then = [] {};
};

// An exchange of one or two stages.
class Exchange final : public c10d::Work {
 public:
  // `world_ranks` of the group's processes, for messages; a timeout of 0 is the progress thread's.
  struct Group {
    MPI_Comm comm;
    std::shared_ptr<const std::vector<int64_t>> world_ranks;
  };
  Exchange(std::string name, Group group, int tag, std::vector<Stage> stages, std::function<void()> at_wait,
           double timeout_seconds = 0);
  // Until it is done; then calls at_wait, once. Throws what went wrong.
  bool wait(std::chrono::milliseconds timeout) override;

 private:
  friend class Progress;
  std::string name_;  // for messages: "all-reduce of 4.0 MiB"
  Group group_;
  int tag_;
  std::vector<Stage> stages_;
  std::function<void()> at_wait_;
  double timeout_seconds_;
  size_t stage_ = 0;
  std::vector<MPI_Request> requests_ = {};
  std::vector<int> peers_ = {};  // of the requests
  std::chrono::steady_clock::time_point last_progress_ = {};
};

class Progress {
 public:
  explicit Progress(double timeout_seconds);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // On the thread, now; waits for it.
  void run(const std::function<void()>& f);
  void start(const c10::intrusive_ptr<Exchange>& exchange);

 private:
  void loop();
  bool take_new(bool may_sleep);
  void begin_stage(Exchange& exchange) const;
  [[nodiscard]] bool advance(Exchange& exchange) const;  // whether anything arrived; completes it when all has
  [[nodiscard]] std::string missing(const Exchange& exchange) const;

  double timeout_seconds_;
  std::mutex mutex_;
  std::condition_variable woken_;
  std::deque<std::function<void()>> calls_;
  std::deque<c10::intrusive_ptr<Exchange>> new_;
  bool ends_ = false;
  std::vector<c10::intrusive_ptr<Exchange>> under_way_;  // of the thread alone
  std::jthread thread_;
};

}  // namespace longfold::parallel::mpi
