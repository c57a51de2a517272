#include "longfold/train/run_log.h"

#include <filesystem>

namespace longfold::train {

RunLog::RunLog(const RunConfig& config, int64_t done)
    : metrics_(std::filesystem::path(config.output) / "metrics.jsonl", done) {
  if (config.tensorboard) events_.emplace(std::filesystem::path(config.output) / "tensorboard", done);
}

void RunLog::write(const StepReport& report) {
  metrics_.write(report);
  if (!events_) return;
  const auto number = [](int64_t bytes) { return static_cast<double>(bytes); };
  events_->write(report.step, {{"loss/train", report.loss},
                               {"loss/held_out", report.held_out_loss},
                               {"loss/validation", report.validation_loss},
                               {"optimizer/grad_norm", report.grad_norm},
                               {"optimizer/learning_rate", report.learning_rate},
                               {"optimizer/loss_scale", report.loss_scale},
                               {"optimizer/skipped", report.skipped ? 1.0 : 0.0},
                               {"speed/tokens_per_second", report.tokens_per_second},
                               {"speed/seconds_waited", report.seconds_waited},
                               {"memory/live", number(report.memory_live)},
                               {"memory/peak", number(report.memory_peak)}});
}

void RunLog::flush() {
  metrics_.flush();
  if (events_) events_->flush();
}

}  // namespace longfold::train
