#include "longfold/cli/signals.h"

#include <unistd.h>

#include <array>
#include <csignal>

namespace longfold::cli {
namespace {

// A signal handler sees nothing but globals.
std::atomic<bool> stop_requested = false;
std::atomic<const StopWords*> stop_words = nullptr;
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<const StopWords*>::is_always_lock_free);

void say_now(const std::string& text) {
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
}

void request_stop(int signal) {
  const StopWords& words = *stop_words;
  if (stop_requested.exchange(true)) {
    say_now(words.second);
    ::signal(signal, SIG_DFL);
    ::raise(signal);  // comes as soon as this handler returns
    return;
  }
  say_now(words.first);
  if (words.nothing_to_save) ::_exit(0);
}

constexpr std::array kSignals{SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU, SIGHUP};

void install(int flags) {
  struct sigaction action{};
  action.sa_handler = request_stop;
  action.sa_flags = flags;
  for (const int signal : kSignals) {
    struct sigaction before{};
    ::sigaction(signal, nullptr, &before);
    if (signal == SIGHUP && before.sa_handler == SIG_IGN) continue;
    ::sigaction(signal, &action, nullptr);
  }
  std::signal(SIGXFSZ, SIG_IGN);
}

}  // namespace

StopSignals::StopSignals(StopWords words) {
  say(std::move(words));
  install(SA_RESTART);
  std::signal(SIGPIPE, SIG_IGN);
}

StopSignals::~StopSignals() {
  struct sigaction ours{};
  for (const int signal : kSignals) {
    ::sigaction(signal, nullptr, &ours);
    if (ours.sa_handler == request_stop) std::signal(signal, SIG_DFL);
  }
}

void StopSignals::say(StopWords words) {
  stop_words = words_.emplace_back(std::make_unique<StopWords>(std::move(words))).get();
}

const std::atomic<bool>& StopSignals::stop() const {
  return stop_requested;
}

const std::atomic<bool>& catch_signals(const char* message) {
  static const StopWords words{.first = message, .second = ""};
  stop_words = &words;
  install(0);
  return stop_requested;
}

}  // namespace longfold::cli
