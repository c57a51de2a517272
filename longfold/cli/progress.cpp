#include "longfold/cli/progress.h"

#include <unistd.h>

#include <array>
#include <cmath>
#include <cstdio>

#include "longfold/base/text.h"
#include "longfold/train/divergence.h"

namespace longfold::cli {
namespace {

using std::chrono::seconds;
constexpr seconds kPatience{1};
constexpr seconds kLogPause{60};

std::string loss_text(double loss) {
  if (!std::isfinite(loss)) return train::number_text(loss);
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.4f", loss);
  return text.data();
}

std::string since(std::chrono::steady_clock::time_point begin) {
  return base::format_duration(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
}

std::string describe(const train::StepReport& report) {
  std::string line = "step " + std::to_string(report.step) + "/" + std::to_string(report.num_steps) + "  loss " +
                     (report.loss ? loss_text(*report.loss) : "-");
  if (report.held_out_loss) line += ", held out " + loss_text(*report.held_out_loss);
  if (report.validation_loss) line += ", validation " + loss_text(*report.validation_loss);
  if (report.skipped) line += ", skipped (gradient norm " + train::number_text(report.grad_norm) + ")";
  return line + "  " + base::format_count(static_cast<int64_t>(report.tokens_per_second)) + " tokens/s  " +
         base::format_bytes(report.memory_peak) + "  " + base::format_duration(report.seconds_left) + " left";
}

}  // namespace

Progress::Progress(bool speaks)
    : speaks_(speaks),
      terminal_(::isatty(STDERR_FILENO) == 1),
      watcher_([this](const std::stop_token& stop) { watch(stop); }) {}

void Progress::begin(const std::string& what) {
  const std::lock_guard lock(mutex_);
  start(what, "", kPatience);
}

void Progress::show(const train::StepReport& report) {
  const std::lock_guard lock(mutex_);
  ++steps_;
  seconds_per_token_ += 1 / report.tokens_per_second;
  seconds_waited_ += report.seconds_waited;
  bytes_sent_ += static_cast<double>(report.bytes_sent.value_or(0));
  share_exchanging_ += report.seconds > 0 ? report.seconds_exchanging / report.seconds : 0;
  const std::string line = describe(report);
  print(line);
  const bool last = report.step >= report.num_steps;
  start(last ? "" : "step " + std::to_string(report.step + 1) + " under way", line, terminal_ ? kPatience : kLogPause);
}

void Progress::begin_parts(const std::string& name, const std::string& part, int64_t count, double expected_seconds) {
  const std::lock_guard lock(mutex_);
  parts_name_ = name;
  part_ = part;
  std::string line = name + ": " + base::format_count(count) + " " + part + (count == 1 ? "" : "s");
  if (expected_seconds > 0) line += ", about " + base::format_duration(expected_seconds);
  print(line);
  parts_began_ = parts_shown_ = Clock::now();
  start(part + " 1 under way", line, terminal_ ? kPatience : kLogPause);
}

void Progress::show_parts(int64_t done, int64_t count) {
  const std::lock_guard lock(mutex_);
  const auto now = Clock::now();
  const double each = std::chrono::duration<double>(now - parts_began_).count() / static_cast<double>(done);
  const std::string line = parts_name_ + ": " + part_ + " " + std::to_string(done) + "/" + std::to_string(count) +
                           "  " + base::format_duration(each * static_cast<double>(count - done)) + " left";
  if (terminal_ || now - parts_shown_ >= seconds(10)) {
    print(line);
    parts_shown_ = now;
  }
  start(part_ + " " + std::to_string(done + 1) + " under way", line, terminal_ ? kPatience : kLogPause);
}

void Progress::finish() {
  const std::lock_guard lock(mutex_);
  if (open_) std::fputs("\n", stderr);
  open_ = false;
  start("", "", kPatience);
}

double Progress::tokens_per_second() const {
  const std::lock_guard lock(mutex_);
  return steps_ > 0 ? static_cast<double>(steps_) / seconds_per_token_ : 0;
}

double Progress::seconds_waited() const {
  const std::lock_guard lock(mutex_);
  return seconds_waited_;
}

Progress::Exchanged Progress::exchanged() const {
  const std::lock_guard lock(mutex_);
  const auto steps = static_cast<double>(std::max<int64_t>(steps_, 1));
  return {bytes_sent_ / steps, share_exchanging_ / steps};
}

void Progress::start(std::string what, std::string line, seconds silence) {
  what_ = std::move(what);
  line_ = std::move(line);
  began_ = Clock::now();
  next_ = began_ + silence;
}

void Progress::print(const std::string& line) {
  if (!speaks_) return;
  std::fprintf(stderr, "%s%s%s", terminal_ ? "\r\x1b[K" : "", line.c_str(), terminal_ ? "" : "\n");
  open_ = terminal_;
}

void Progress::watch(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    if (!what_.empty() && Clock::now() >= next_) {
      const std::string now = what_ + ", " + since(began_);
      print(line_.empty() ? now : line_ + "  (" + now + ")");
      next_ += terminal_ ? kPatience : kLogPause;
    }
    stopped_.wait_for(lock, stop, std::chrono::milliseconds(100), [] { return false; });
  }
}

}  // namespace longfold::cli
