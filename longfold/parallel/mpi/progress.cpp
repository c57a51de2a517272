#include "longfold/parallel/mpi/progress.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <future>
#include <memory>
#include <utility>

#include "longfold/base/error.h"
#include "longfold/base/text.h"

namespace longfold::parallel::mpi {
namespace {

constexpr int64_t kMostBytes = int64_t{1} << 30;  // MPI counts in int

using Clock = std::chrono::steady_clock;

}  // namespace

Exchange::Exchange(std::string name, Group group, int tag, std::vector<Stage> stages, std::function<void()> at_wait,
                   double timeout_seconds)
    : name_(std::move(name)),
      group_(std::move(group)),
      tag_(tag),
      stages_(std::move(stages)),
      at_wait_(std::move(at_wait)),
      timeout_seconds_(timeout_seconds) {}

bool Exchange::wait(std::chrono::milliseconds timeout) {
  const bool done = c10d::Work::wait(timeout);
  if (at_wait_) std::exchange(at_wait_, {})();
  stages_.clear();  // and what they keep
  return done;
}

Progress::Progress(double timeout_seconds) : timeout_seconds_(timeout_seconds), thread_([this] { loop(); }) {}

Progress::~Progress() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  woken_.notify_one();
}

void Progress::run(const std::function<void()>& f) {
  std::promise<void> done;
  {
    const std::lock_guard lock(mutex_);
    calls_.emplace_back([&] {
      try {
        f();
        done.set_value();
      } catch (...) {
        done.set_exception(std::current_exception());
      }
    });
  }
  woken_.notify_one();
  done.get_future().get();
}

void Progress::start(const c10::intrusive_ptr<Exchange>& exchange) {
  {
    const std::lock_guard lock(mutex_);
    new_.push_back(exchange);
  }
  woken_.notify_one();
}

// Runs calls and begins exchanges; false: the thread is to end.
bool Progress::take_new(bool may_sleep) {
  std::unique_lock lock(mutex_);
  if (may_sleep) woken_.wait(lock, [&] { return ends_ || !calls_.empty() || !new_.empty(); });
  while (!calls_.empty()) {
    const auto call = std::move(calls_.front());
    calls_.pop_front();
    lock.unlock();
    call();
    lock.lock();
  }
  std::deque<c10::intrusive_ptr<Exchange>> all;
  std::swap(all, new_);
  const bool goes_on = !ends_ || !all.empty();
  lock.unlock();
  for (auto& exchange : all) {
    begin_stage(*exchange);
    under_way_.push_back(std::move(exchange));
  }
  return goes_on;
}

void Progress::loop() {
  int idle = 0;
  while (take_new(under_way_.empty())) {
    bool any = false;
    for (const auto& exchange : under_way_) any = advance(*exchange) || any;
    std::erase_if(under_way_, [](const auto& exchange) { return exchange->isCompleted(); });
    // Processes share cores with their own arithmetic and with each other.
    idle = any ? 0 : idle + 1;
    if (idle > 1000) {
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    } else if (idle > 20) {
      std::this_thread::yield();
    }
  }
}

void Progress::begin_stage(Exchange& exchange) const {
  const Stage& stage = exchange.stages_[exchange.stage_];
  const int tag = exchange.tag_ + static_cast<int>(exchange.stage_);
  const auto in_pieces = [&](const Message& message, auto&& call) {
    auto* data = static_cast<std::byte*>(message.data);
    for (int64_t done = 0; done < message.bytes; done += kMostBytes) {
      exchange.peers_.push_back(message.peer);
      call(data + done, static_cast<int>(std::min(kMostBytes, message.bytes - done)),
           &exchange.requests_.emplace_back());
    }
  };
  exchange.requests_.clear();
  exchange.peers_.clear();
  for (const Message& message : stage.receives) {
    in_pieces(message, [&](void* data, int bytes, MPI_Request* request) {
      MPI_Irecv(data, bytes, MPI_BYTE, message.peer, tag, exchange.group_.comm, request);
    });
  }
  for (const Message& message : stage.sends) {
    in_pieces(message, [&](void* data, int bytes, MPI_Request* request) {
      MPI_Isend(data, bytes, MPI_BYTE, message.peer, tag, exchange.group_.comm, request);
    });
  }
  exchange.last_progress_ = Clock::now();
}

bool Progress::advance(Exchange& exchange) const {
  std::vector<int> done(exchange.requests_.size());
  int count = 0;
  MPI_Testsome(static_cast<int>(done.size()), exchange.requests_.data(), &count, done.data(), MPI_STATUSES_IGNORE);
  if (count == MPI_UNDEFINED) {  // none is left
    try {
      exchange.stages_[exchange.stage_].then();
      if (++exchange.stage_ < exchange.stages_.size()) {
        begin_stage(exchange);
      } else {
        exchange.finish();
      }
    } catch (...) {
      exchange.finish(std::current_exception());
    }
    return true;
  }
  if (count > 0) {
    exchange.last_progress_ = Clock::now();
    return true;
  }
  const double timeout = exchange.timeout_seconds_ > 0 ? exchange.timeout_seconds_ : timeout_seconds_;
  if (std::chrono::duration<double>(Clock::now() - exchange.last_progress_).count() > timeout) {
    exchange.finish(std::make_exception_ptr(base::RunError(missing(exchange))));
  }
  return false;
}

std::string Progress::missing(const Exchange& exchange) const {
  std::vector<std::string> peers;
  for (size_t i = 0; i < exchange.requests_.size(); ++i) {
    if (exchange.requests_[i] == MPI_REQUEST_NULL) continue;
    const std::string peer = std::to_string((*exchange.group_.world_ranks)[static_cast<size_t>(exchange.peers_[i])]);
    if (std::ranges::find(peers, peer) == peers.end()) peers.push_back(peer);
  }
  return "[mpi] " + exchange.name_ + ": nothing came for " + base::format_duration(timeout_seconds_) +
         " from process " + base::join(peers, ", ") + " (parallel.timeout)";
}

}  // namespace longfold::parallel::mpi
