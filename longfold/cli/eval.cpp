// longfold eval: how well a checkpoint predicts a data set, beside predictors that only count.
#include <ATen/Parallel.h>

#include <cmath>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "longfold/base/error.h"
#include "longfold/base/text.h"
#include "longfold/cli/checkpoints.h"
#include "longfold/cli/commands.h"
#include "longfold/cli/progress.h"
#include "longfold/data/markov.h"
#include "longfold/data/sampler.h"
#include "longfold/train/evaluate.h"

namespace longfold::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

struct EvalOptions {
  std::string checkpoint, data, train, device;
  bool best = false, json = false;
  std::optional<int64_t> sequence_length;
  int64_t order = 5;
  int64_t threads = 0;
};

struct Row {
  std::string name;
  double loss = 0;  // nats per token
};

struct Report {
  fs::path checkpoint;
  int64_t step = 0;
  std::string device;           // "" for the CPU
  std::string scored, trained;  // data sets, and which part of them
  int64_t num_labels = 0, letters = 1;
  std::vector<Row> rows;  // the model, then the baselines

  [[nodiscard]] static double perplexity(const Row& row) { return std::exp(row.loss); }
  [[nodiscard]] double bits_per_base(const Row& row) const {
    return row.loss / std::log(2.0) / static_cast<double>(letters);
  }
};

// Which labels are scored: all of --data, or what the run held out of its own data set.
data::LabelPart scored_part(const data::TokenFile& file, const EvalOptions& options, const train::Recipe& recipe) {
  if (!options.data.empty()) return {.file = file};
  if (recipe.data.held_out > 0) return {.file = file, .held_out = recipe.data.held_out, .in_held_out = true};
  throw base::UserError("expected --data, a data set to evaluate on: the run held out nothing of its own, '" +
                        recipe.data.path + "'");
}

std::string describe(const data::LabelPart& part) {
  if (part.held_out == 0) return part.file.prefix();
  return part.file.prefix() + (part.in_held_out ? ", the held-out part" : ", without the held-out part");
}

data::TokenFile open_with_tokens_of(const std::string& prefix, const train::Manifest& manifest) {
  data::TokenFile file(prefix);
  if (file.tokenizer().hash() != manifest.tokenizer_hash) {
    throw base::UserError("the model has the tokens of " + manifest.tokenizer + " (" + manifest.tokenizer_hash +
                          "), '" + prefix + "' has " + file.tokenizer().name() + " (" + file.tokenizer().hash() + ")");
  }
  file.check_content();
  return file;
}

data::SamplerConfig windows_of(const EvalOptions& options, const train::Recipe& recipe, const data::LabelPart& part) {
  const int64_t length = options.sequence_length.value_or(recipe.data.sequence_length);
  if (length < 0) throw base::UserError("expected --sequence_length to be 0 or more, got " + std::to_string(length));
  const int64_t longest = length > 0 ? length : part.file.longest();
  if (recipe.model.has_learned_positions() && longest > recipe.model.max_positions) {
    throw base::UserError("expected windows of at most " + std::to_string(recipe.model.max_positions) +
                          " tokens, as model.max_positions is, got " + std::to_string(longest) +
                          " (--sequence_length cuts them)");
  }
  return {.path = part.file.prefix(),
          .sequence_length = std::min(length, part.file.longest()),
          .held_out = part.held_out,
          .batch_size = 1};
}

// What the baselines learn from must be what the model was trained on, or a data set that was asked for.
data::TokenFile open_training_data(const EvalOptions& options, const train::Manifest& manifest,
                                   const train::Recipe& recipe) {
  if (!options.train.empty()) return open_with_tokens_of(options.train, manifest);
  data::TokenFile file = open_with_tokens_of(recipe.data.path, manifest);
  if (file.content_hash() == manifest.data_hash) return file;
  throw base::UserError(
      "'" + recipe.data.path + "' is no longer what the model was trained on: expected tokens with hash " +
      manifest.data_hash + ", got " + file.content_hash() + " (--train names a data set for baselines)");
}

Report evaluate(const EvalOptions& options, Progress& progress) {
  if (options.order < 0 && !options.train.empty())
    throw base::UserError("--train is for baselines, --order -1 has none");
  Report report;
  report.checkpoint = find_checkpoint(options.checkpoint, options.best);
  progress.begin("reading '" + report.checkpoint.string() + "'");
  const auto [manifest, recipe, model] = load_trained_model(report.checkpoint, options.device);
  const at::ScalarType dtype = train::compute_dtype(recipe.compute.dtype);
  if (dtype != at::kFloat) model.ptr()->compute_in(dtype);  // as the run did
  report.step = manifest.step;
  if (recipe.compute.device != "cpu")
    report.device = recipe.compute.device + ", attention by " + recipe.compute.attention;
  const auto expect_data = [&](const std::string& given, const char* option) {
    if (!given.empty() || manifest.imported_from.empty()) return;
    throw base::UserError(std::string("expected ") + option + ": '" + report.checkpoint.string() +
                          "' was imported and has no data set of its own");
  };
  expect_data(options.data, "--data, a data set to evaluate on");
  if (options.order >= 0) expect_data(options.train, "--train, a data set for baselines (or none, with --order -1)");

  progress.begin("checking the tokens");
  const data::TokenFile file = open_with_tokens_of(options.data.empty() ? recipe.data.path : options.data, manifest);
  const data::LabelPart scored = scored_part(file, options, recipe);
  const data::Sampler sampler(file, windows_of(options, recipe, scored));
  report.scored = describe(scored);
  report.letters = file.tokenizer().letters_per_token();
  const train::Split split = scored.in_held_out ? train::held_out_part(sampler) : train::all_windows(sampler);
  if (split.num_batches > 0) progress.begin_parts("evaluating", "window", split.num_batches);
  const train::MeanLoss loss =
      train::evaluate(model, split, [&](int64_t done, int64_t of) { progress.show_parts(done, of); });
  progress.finish();
  if (!loss.mean()) throw base::UserError("no token of " + report.scored + " counts in a loss");
  report.num_labels = std::llround(loss.num_labels());
  report.rows.push_back({"model", *loss.mean()});
  if (options.order < 0) return report;

  const data::TokenFile training = open_training_data(options, manifest, recipe);
  const data::LabelPart trained{.file = training, .held_out = options.train.empty() ? recipe.data.held_out : 0};
  report.trained = describe(trained);
  progress.begin_parts("baselines", "order", options.order + 1);
  const std::vector<data::BaselineScore> scores = data::markov_baselines(
      trained, scored, options.order, [&](int64_t done, int64_t of) { progress.show_parts(done, of); });
  progress.finish();
  if (scores[0].num_labels != report.num_labels) {
    throw base::RunError("the model was scored on " + std::to_string(report.num_labels) + " tokens, the baselines on " +
                         std::to_string(scores[0].num_labels));
  }
  report.rows.push_back({"uniform", data::uniform_baseline(scored).loss});
  for (size_t order = 0; order < scores.size(); ++order) {
    report.rows.push_back({"Markov order " + std::to_string(order), scores[order].loss});
  }
  return report;
}

void print_json(const Report& report) {
  const auto numbers = [&](const Row& row) {
    return Json{
        {"loss", row.loss}, {"perplexity", Report::perplexity(row)}, {"bits_per_base", report.bits_per_base(row)}};
  };
  Json json = {{"checkpoint", report.checkpoint.string()},
               {"step", report.step},
               {"data", report.scored},
               {"tokens", report.num_labels},
               {"bases_per_token", report.letters}};
  json.update(numbers(report.rows[0]));
  if (!report.trained.empty()) json["baselines_trained_on"] = report.trained;
  for (size_t i = 1; i < report.rows.size(); ++i) json["baselines"][report.rows[i].name] = numbers(report.rows[i]);
  std::printf("%s\n", json.dump(1).c_str());
}

void print_table(const Report& report) {
  std::printf("checkpoint   %s\n", base::printable(report.checkpoint.string()).c_str());
  if (!report.device.empty()) std::printf("device       %s\n", report.device.c_str());
  std::printf("scored on    %s: %s tokens of %ld base%s\n", base::printable(report.scored).c_str(),
              base::format_count(report.num_labels).c_str(), long{report.letters}, report.letters == 1 ? "" : "s");
  if (!report.trained.empty()) std::printf("baselines    from %s\n", base::printable(report.trained).c_str());
  std::printf("\n  %-18s %14s %12s %12s\n", "", "nats per token", "perplexity", "bits a base");
  for (const Row& row : report.rows) {
    std::printf("  %-18s %14.4f %12.4g %12.4f\n", row.name.c_str(), row.loss, Report::perplexity(row),
                report.bits_per_base(row));
  }
}

}  // namespace

void add_eval(CLI::App& app) {
  CLI::App* command = app.add_subcommand("eval", "how well a checkpoint predicts a data set, beside Markov models");
  const auto options = std::make_shared<EvalOptions>();
  command->add_option("checkpoint", options->checkpoint, "a checkpoint, or a run's output folder: its newest one")
      ->required()
      ->type_name("FOLDER");
  command->add_flag("--best", options->best, "of a run's folder the one with the least validation loss");
  command->add_option("--data", options->data, "data set; left out: what the run held out of its own")
      ->type_name("PREFIX");
  command->add_option("--train", options->train, "data set that baselines learn from; left out: the run's own")
      ->type_name("PREFIX");
  command->add_option("--sequence_length", options->sequence_length,
                      "tokens in a window, 0: whole records; left out: as the run had");
  command->add_option("--order", options->order, "highest order of the Markov models, -1: no baselines")
      ->check(CLI::Range(-1, 8))
      ->capture_default_str();
  command->add_option("--device", options->device, "cpu, cuda or auto; left out: that of the run");
  command->add_option("--threads", options->threads, "threads; 0 = one for each core")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  command->add_flag("--json", options->json, "prints JSON");
  command->callback([options] {
    if (options->threads > 0) at::set_num_threads(static_cast<int>(options->threads));
    Progress progress;
    const Report report = evaluate(*options, progress);
    options->json ? print_json(report) : print_table(report);
  });
}

}  // namespace longfold::cli
