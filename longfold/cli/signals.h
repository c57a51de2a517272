// Signals as a request to stop in order: Ctrl-C, and what schedulers send before they kill (SIGTERM, SIGUSR1, SIGUSR2,
// SIGXCPU) or a terminal that goes away (SIGHUP, unless nohup has it ignored).
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

namespace longfold::cli {

// What a signal is answered with, on standard error.
struct StopWords {
  std::string first;
  std::string second;            // the second one ends the program at once, after these words
  bool nothing_to_save = false;  // then the first one does too, with exit code 0: all that was computed is on the disk
};

// Catches signals as long as it lives. A file-size limit and a reader that is gone become write errors, like a full
// disk, instead of signals. At most one in a process.
class StopSignals {
 public:
  explicit StopSignals(StopWords words);
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;
  void say(StopWords words);  // from now on
  [[nodiscard]] const std::atomic<bool>& stop() const;

 private:
  std::vector<std::unique_ptr<StopWords>> words_;  // a handler may be reading any of them
};

// The same for a program that has one thing to say: the first signal sets the flag that is returned and prints
// `message`, the second ends the program at once. Blocking system calls are interrupted.
const std::atomic<bool>& catch_signals(const char* message);

}  // namespace longfold::cli
