#include "longfold/cli/signals.h"

#include <unistd.h>

#include <csignal>
#include <cstring>

namespace longfold::cli {
namespace {

// A signal handler sees nothing but globals.
std::atomic<bool> stop_requested = false;
std::atomic<const char*> stop_message = "";
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<const char*>::is_always_lock_free);

void request_stop(int) {
  stop_requested = true;
  const char* message = stop_message;
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, message, std::strlen(message));
}

}  // namespace

const std::atomic<bool>& catch_signals(const char* message) {
  stop_message = message;
  struct sigaction action{};
  action.sa_handler = request_stop;
  action.sa_flags = static_cast<int>(SA_RESETHAND);  // the second one has its default effect
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  std::signal(SIGXFSZ, SIG_IGN);
  return stop_requested;
}

}  // namespace longfold::cli
