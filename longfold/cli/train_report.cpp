#include "longfold/cli/train_report.h"

#include <ATen/Parallel.h>
#include <cstdio>

#include "longfold/base/text.h"
#include "longfold/data/markov.h"

namespace longfold::cli {
namespace {

// Tokens that attend to each other: a whole record, or a window of it.
int64_t sequence_length(const train::Trainer& trainer) {
  const int64_t length = trainer.recipe().data.sequence_length;
  return length > 0 ? length : trainer.data().longest();
}

void print_loss(const char* name, double loss, const char* remark) {
  std::printf("  %-22s %7.4f   %s\n", name, loss, remark);
}

void print_no_loss(const char* name, const char* remark) {
  std::printf("  %-22s %7s   %s\n", name, "-", remark);
}

train::Evaluation evaluate(train::Trainer& trainer, Progress& progress) {
  const int64_t num_windows = trainer.num_held_out_windows();
  if (num_windows > 0) {
    progress.begin_parts("held-out loss", "window", num_windows, trainer.evaluation_seconds());
  } else {
    progress.begin("evaluating");
  }
  const train::Evaluation evaluation =
      trainer.evaluate([&](int64_t done, int64_t of) { progress.show_parts(done, of); });
  progress.finish();
  return evaluation;
}

struct Baselines {
  data::BaselineScore uniform, order_0, order_2;
};

Baselines count_baselines(const train::Trainer& trainer, Progress& progress) {
  const double held_out = trainer.recipe().data.held_out;
  progress.begin("counting the baselines");
  const data::LabelPart trained{.file = trainer.data(), .held_out = held_out};
  const data::LabelPart scored{.file = trainer.data(), .held_out = held_out, .in_held_out = true};
  const std::vector<data::BaselineScore> orders = data::markov_baselines(trained, scored, 2);
  const Baselines baselines{.uniform = data::uniform_baseline(scored), .order_0 = orders[0], .order_2 = orders[2]};
  progress.finish();
  return baselines;
}

}  // namespace

void print_start(const train::Trainer& trainer, const std::string& changes) {
  const data::TokenFile& data = trainer.data();
  const train::Recipe& recipe = trainer.recipe();
  std::printf("data         %s: %s tokens in %s sequence(s), tokenizer %s\n", recipe.data.path.c_str(),
              base::format_count(data.num_tokens()).c_str(), base::format_count(data.num_sequences()).c_str(),
              data.tokenizer().name().c_str());
  std::printf("model        %s parameters: %ld layers, width %ld, %ld heads\n",
              base::format_count(recipe.model.num_parameters()).c_str(), long{recipe.model.num_layers},
              long{recipe.model.hidden_size}, long{recipe.model.num_heads});
  if (!recipe.train.init_from.empty() && trainer.steps_done() == 0)
    std::printf("weights      those of '%s'\n", base::printable(recipe.train.init_from).c_str());
  const std::string batches =
      recipe.train.accumulate > 1 ? std::to_string(recipe.train.accumulate) + " batches of " : "";
  std::printf("step         %s%ld x %s tokens, %s, %d threads\n", batches.c_str(), long{recipe.data.batch_size},
              base::format_count(sequence_length(trainer)).c_str(), recipe.compute.dtype.c_str(),
              at::get_num_threads());
  if (recipe.compute.device != "cpu") {
    std::printf("device       %s, attention by %s, %s\n", recipe.compute.device.c_str(),
                recipe.compute.attention.c_str(),
                recipe.compute.deterministic ? "the same bits run after run" : "not the same bits run after run");
  }
  if (trainer.steps_done() > 0) std::printf("resumed      after step %ld\n", long{trainer.steps_done()});
  if (!changes.empty()) std::printf("changed      %s\n", changes.c_str());
  std::fflush(stdout);
}

void print_summary(train::Trainer& trainer, Progress& progress, int64_t planned_to_send) {
  const int64_t peak = trainer.meter().peak();
  const double tokens_per_second = progress.tokens_per_second(), seconds_waited = progress.seconds_waited();
  const train::Evaluation evaluation = evaluate(trainer, progress);
  const Baselines baselines = evaluation.held_out_loss ? count_baselines(trainer, progress) : Baselines();
  std::printf("\nloss per token, in nats (lower is better)\n");
  if (evaluation.loss) {
    print_loss("trained on", *evaluation.loss, "memorisation: the model has seen these tokens");
  } else {
    print_no_loss("trained on", "the last step's windows had no label that counts");
  }
  if (evaluation.held_out_loss) {
    const std::string labels = "on " + base::format_count(baselines.uniform.num_labels) + " tokens never trained on";
    print_loss("held out", *evaluation.held_out_loss, labels.c_str());
    print_loss("  uniform", baselines.uniform.loss, "baselines on the same held-out tokens");
    print_loss("  Markov order 0", baselines.order_0.loss, "token frequencies");
    print_loss("  Markov order 2", baselines.order_2.loss, "the two tokens before");
  } else if (trainer.recipe().data.held_out > 0) {
    print_no_loss("held out", "no token there counts");
  }
  if (const auto& best = trainer.best()) {
    const std::string step = "at best, after step " + std::to_string(best->step);
    print_loss("validation", best->validation_loss, step.c_str());
  }
  if (trainer.steps_skipped() > 0) {
    std::printf("\nskipped      %s of %s steps: a loss or gradient was not a number\n",
                base::format_count(trainer.steps_skipped()).c_str(), base::format_count(trainer.steps_done()).c_str());
  }
  const int64_t length = sequence_length(trainer), num_heads = trainer.recipe().model.num_heads;
  if (tokens_per_second > 0) {
    std::printf("\nspeed        %s tokens/s, %.3f s waited for tokens\n",
                base::format_count(static_cast<int64_t>(tokens_per_second)).c_str(), seconds_waited);
  }
  if (const auto [bytes, share] = progress.exchanged(); bytes > 0) {
    std::printf("exchanged    %s a step from the first process, %s planned; %.0f %% of the time waited for others\n",
                base::format_bytes(static_cast<int64_t>(bytes)).c_str(), base::format_bytes(planned_to_send).c_str(),
                100 * share);
  }
  std::printf("memory       %s at most, parameters and optimizer included\n", base::format_bytes(peak).c_str());
  std::printf("never built  %s for an S x S mask (1 byte each), %s for one layer's scores (fp32, %ld heads), S = %s\n",
              base::format_bytes(length * length).c_str(), base::format_bytes(length * length * 4 * num_heads).c_str(),
              long{num_heads}, base::format_count(length).c_str());
}

}  // namespace longfold::cli
