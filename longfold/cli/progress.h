// What is under way, on standard error: one line, redrawn in place, on a terminal; lines of their own in a log. A
// thread repeats what takes long with the time it has taken, so that nothing is silent for longer than a second.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "longfold/train/metrics.h"

namespace longfold::cli {

class Progress {
 public:
  explicit Progress(bool speaks = true);  // one that does not says nothing
  ~Progress() { finish(); }               // an error message then has a line of its own
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Says nothing if it is over within a second. In a log it is said then, and once a minute from there on.
  void begin(const std::string& what);
  void show(const train::StepReport& report);  // in a log each step is said; the next one begins
  // Something that has parts, such as "held-out loss", "window": always said, with the time left after each part; in a
  // log at most every ten seconds.
  void begin_parts(const std::string& name, const std::string& part, int64_t count, double expected_seconds = 0);
  void show_parts(int64_t done, int64_t count);
  void finish();

  // Over all steps shown.
  [[nodiscard]] double tokens_per_second() const;
  [[nodiscard]] double seconds_waited() const;  // for tokens
  // Bytes that the first process sent in a step, and the share of the steps' time that it waited for others.
  struct Exchanged {
    double bytes_a_step, share_waited;
  };
  [[nodiscard]] Exchanged exchanged() const;

 private:
  using Clock = std::chrono::steady_clock;
  void watch(const std::stop_token& stop);
  void start(std::string what, std::string line, std::chrono::seconds silence);
  void print(const std::string& line);

  bool speaks_, terminal_;
  mutable std::mutex mutex_;  // of all below
  std::condition_variable_any stopped_;
  std::string what_;                // under way; "" for nothing
  std::string line_;                // what is on the terminal, without the time taken
  bool open_ = false;               // a line without its end is on the terminal
  Clock::time_point began_, next_;  // when it is said again
  std::string parts_name_, part_;
  Clock::time_point parts_began_, parts_shown_;
  int64_t steps_ = 0;
  double seconds_per_token_ = 0, seconds_waited_ = 0;  // summed over steps, as the next two
  double bytes_sent_ = 0, share_exchanging_ = 0;
  std::jthread watcher_;  // last: it reads the others
};

}  // namespace longfold::cli
