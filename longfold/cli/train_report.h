// What `longfold train` shows: the progress line on stderr, the start and the summary on stdout.
#pragma once

#include "longfold/train/trainer.h"

namespace longfold::cli {

// Redrawn in place on a terminal, one line for each step otherwise.
class ProgressLine {
 public:
  ProgressLine();
  ~ProgressLine() { finish(); }  // an error message then has a line of its own
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  void show(const train::StepReport& report);
  void finish();
  [[nodiscard]] double tokens_per_second() const;  // over all steps shown

 private:
  bool terminal_;
  bool open_ = false;  // a line without its end is on the terminal
  int64_t steps_ = 0;
  double seconds_per_token_ = 0;  // summed over steps
};

void print_start(const train::Recipe& recipe, const train::Trainer& trainer);
void print_summary(const train::Recipe& recipe, train::Trainer& trainer, const memory::MemoryMeter& meter,
                   double tokens_per_second);

}  // namespace longfold::cli
