#include "longfold/train/divergence.h"

#include <array>
#include <cmath>
#include <cstdio>

#include "longfold/train/checkpoint.h"

namespace longfold::train {
namespace {

// A learning rate is blamed only for what happened after an update from a sane start.
std::string cause(const Outcome& outcome, const RunSoFar& run) {
  const double guess = std::log(static_cast<double>(run.vocab_size));
  const bool wild_start = run.first_step == 1 && run.first_loss && *run.first_loss > 2 * guess;
  if (outcome.step > 1 && !wild_start) {
    return "a lower optimizer.learning_rate than " + number_text(run.learning_rate) + " or a longer warm-up may help";
  }
  const std::string sign = outcome.step == 1 ? "no update was made yet"
                                             : "step 1 began at a loss of " + number_text(*run.first_loss) +
                                                   " where guessing gives " + number_text(guess);
  return sign + ": look at the initial weights (model.init_std is " + number_text(run.init_std) + ")";
}

// `first`: the step from whose parameters on nothing went well.
std::string ways_back(int64_t first, int64_t step, const std::filesystem::path& output) {
  const auto good = latest_checkpoint(output, first - 2);
  const auto failed = latest_checkpoint(output, step - 1);
  std::string text = good ? "the last good checkpoint is '" + good->string() + "'" : "there is no good checkpoint";
  if (failed != good) text += " ('" + failed->string() + "' fails the same way: remove it before you resume)";
  return text;
}

}  // namespace

bool Outcome::is_finite() const {
  return std::isfinite(loss.value_or(0)) && std::isfinite(held_out_loss.value_or(0)) &&
         std::isfinite(grad_norm.value_or(0)) && std::isfinite(validation_loss.value_or(0));
}

std::string number_text(double value) {
  if (std::isnan(value)) return "nan";
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.4g", value);
  return text.data();
}

std::string describe(const Outcome& outcome, const RunSoFar& run, const std::filesystem::path& output) {
  std::string text =
      outcome.grad_norm ? "step " + std::to_string(outcome.step) : "after step " + std::to_string(outcome.step - 1);
  text += ": the loss is " + (outcome.loss ? number_text(*outcome.loss) : "-");
  if (outcome.held_out_loss) text += ", held out " + number_text(*outcome.held_out_loss);
  if (outcome.validation_loss) text += ", on validation data " + number_text(*outcome.validation_loss);
  if (outcome.grad_norm) text += ", the gradient norm " + number_text(*outcome.grad_norm);
  if (run.skipped_in_a_row > 0) text += ", and " + std::to_string(run.skipped_in_a_row) + " steps before were skipped";
  return text + "; " + ways_back(outcome.step - run.skipped_in_a_row, outcome.step, output) + "; " +
         cause(outcome, run);
}

}  // namespace longfold::train
