// metrics.jsonl in the output folder: one JSON line for each step, readable while the run goes on.
#pragma once

#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace longfold::train {

// What one step did. Losses are those of the parameters before its update, in nats per token.
struct StepReport {
  int64_t step = 0;  // 1 for the first
  int64_t num_steps = 0;
  std::optional<double> loss;             // none if no label of the batch counts
  std::optional<double> held_out_loss;    // none if the batch has no held-out labels
  std::optional<double> validation_loss;  // after the update; none if it was not looked at, or no label counts
  double grad_norm = 0;                   // before clipping
  double learning_rate = 0;
  std::optional<double> loss_scale;   // of fp16 alone
  double tokens_per_second = 0;       // without validation and checkpoints
  double seconds = 0;                 // of the step alone
  double seconds_waited = 0;          // for the tokens: they are read while the step before computes
  std::optional<int64_t> bytes_sent;  // to other processes, by the first; of several processes alone
  double seconds_exchanging = 0;      // waited for what they send
  bool skipped = false;               // something was not a number, and the parameters stayed as they were
  int64_t memory_live = 0;            // bytes
  int64_t memory_peak = 0;
  double seconds_left = 0;  // with the evaluation at the end
};

[[nodiscard]] std::string to_json_line(const StepReport& report);

class MetricsFile {
 public:
  // Goes on after step `done`: later lines of a run that died after its last checkpoint are dropped, as these steps are
  // done again. 0 begins anew. UserError if a line that stays is no JSON with a step.
  MetricsFile(std::filesystem::path path, int64_t done);
  void write(const StepReport& report);  // RunError, for instance on a full disk
  void flush();                          // to the disk; RunError

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::filesystem::path path_;
  std::unique_ptr<std::FILE, Close> file_;
};

}  // namespace longfold::train
