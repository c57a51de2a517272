#include "longfold/cli/train_report.h"

#include <ATen/Parallel.h>
#include <unistd.h>

#include <cstdio>

#include "longfold/base/text.h"
#include "longfold/data/markov.h"

namespace longfold::cli {
namespace {

// Tokens that attend to each other: a whole record, or a window of it.
int64_t sequence_length(const train::Recipe& recipe, const train::Trainer& trainer) {
  return recipe.data.sequence_length > 0 ? recipe.data.sequence_length : trainer.data().longest();
}

void print_loss(const char* name, double loss, const char* remark) {
  std::printf("  %-22s %7.4f   %s\n", name, loss, remark);
}

}  // namespace

ProgressLine::ProgressLine() : terminal_(::isatty(STDERR_FILENO) == 1) {}

void ProgressLine::show(const train::StepReport& report) {
  ++steps_;
  seconds_per_token_ += 1 / report.tokens_per_second;
  std::string held_out;
  if (report.held_out_loss) held_out = ", held out " + std::to_string(*report.held_out_loss).substr(0, 6);
  std::fprintf(stderr, "%sstep %ld/%ld  loss %.4f%s  %s tokens/s  %s  %s left%s", terminal_ ? "\r\x1b[K" : "",
               long{report.step}, long{report.num_steps}, report.loss, held_out.c_str(),
               base::format_count(static_cast<int64_t>(report.tokens_per_second)).c_str(),
               base::format_bytes(report.memory_peak).c_str(), base::format_duration(report.seconds_left).c_str(),
               terminal_ ? "" : "\n");
  open_ = terminal_;
}

void ProgressLine::finish() {
  if (open_) std::fputs("\n", stderr);
  open_ = false;
}

double ProgressLine::tokens_per_second() const {
  return steps_ > 0 ? static_cast<double>(steps_) / seconds_per_token_ : 0;
}

void print_start(const train::Recipe& recipe, const train::Trainer& trainer) {
  const data::TokenFile& data = trainer.data();
  std::printf("data         %s: %s tokens in %s sequence(s), tokenizer %s\n", recipe.data.path.c_str(),
              base::format_count(data.num_tokens()).c_str(), base::format_count(data.num_sequences()).c_str(),
              data.tokenizer().name().c_str());
  std::printf("model        %s parameters: %ld layers, width %ld, %ld heads\n",
              base::format_count(recipe.model.num_parameters()).c_str(), long{recipe.model.num_layers},
              long{recipe.model.hidden_size}, long{recipe.model.num_heads});
  std::printf("step         %ld x %s tokens, %d threads\n", long{recipe.data.batch_size},
              base::format_count(sequence_length(recipe, trainer)).c_str(), at::get_num_threads());
  if (trainer.steps_done() > 0) std::printf("resumed      after step %ld\n", long{trainer.steps_done()});
  std::fflush(stdout);
}

void print_summary(const train::Recipe& recipe, train::Trainer& trainer, const memory::MemoryMeter& meter,
                   double tokens_per_second) {
  const int64_t peak = meter.peak();
  const train::Evaluation evaluation = trainer.evaluate();
  std::printf("\nloss per token, in nats (lower is better)\n");
  if (evaluation.loss) print_loss("trained on", *evaluation.loss, "memorisation: the model has seen these tokens");
  if (evaluation.held_out_loss) {
    const auto baseline = [&](int64_t order) {
      return data::markov_baseline(trainer.data(), recipe.data.held_out, order).loss;
    };
    const auto uniform = data::uniform_baseline(trainer.data(), recipe.data.held_out);
    const std::string labels = "on " + base::format_count(uniform.num_labels) + " tokens never trained on";
    print_loss("held out", *evaluation.held_out_loss, labels.c_str());
    print_loss("  uniform", uniform.loss, "baselines on the same held-out tokens");
    print_loss("  Markov order 0", baseline(0), "token frequencies");
    print_loss("  Markov order 2", baseline(2), "the two tokens before");
  }
  const int64_t length = sequence_length(recipe, trainer);
  if (tokens_per_second > 0) {
    std::printf("\nspeed        %s tokens/s\n", base::format_count(static_cast<int64_t>(tokens_per_second)).c_str());
  }
  std::printf("memory       %s at most, parameters and optimizer included\n", base::format_bytes(peak).c_str());
  std::printf("never built  %s for an S x S mask (1 byte each), %s for one layer's scores (fp32, %ld heads), S = %s\n",
              base::format_bytes(length * length).c_str(),
              base::format_bytes(length * length * 4 * recipe.model.num_heads).c_str(), long{recipe.model.num_heads},
              base::format_count(length).c_str());
}

}  // namespace longfold::cli
