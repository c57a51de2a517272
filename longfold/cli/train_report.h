// What `longfold train` prints to standard output: the start and the summary.
#pragma once

#include "longfold/cli/progress.h"
#include "longfold/train/trainer.h"

namespace longfold::cli {

// `changes`: of a resumed run, or "".
void print_start(const train::Trainer& trainer, const std::string& changes);
// Evaluates first.
void print_summary(train::Trainer& trainer, Progress& progress, int64_t planned_to_send);

}  // namespace longfold::cli
