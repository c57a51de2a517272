// longfold plan RECIPE: what a step takes, term by term, and what makes it smaller. Nothing is trained.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "longfold/base/error.h"
#include "longfold/base/fields.h"
#include "longfold/base/text.h"
#include "longfold/cli/bench_model.h"
#include "longfold/cli/commands.h"
#include "longfold/cli/progress.h"
#include "longfold/data/token_file.h"
#include "longfold/train/device.h"
#include "longfold/train/devices.h"
#include "longfold/train/plan.h"
#include "longfold/train/processes.h"

namespace longfold::cli {
namespace {

struct PlanOptions {
  std::string recipe, device, limit;
  int64_t tokens = 0;
  bool json = false;
  std::vector<std::pair<std::string, std::string>> options;
};

const train::DeviceRates* device_named(const std::string& name) {
  if (name.empty()) return nullptr;
  std::vector<std::string> names;
  for (const train::DeviceRates& device : train::known_devices()) {
    if (device.name == name) return &device;
    names.emplace_back(device.name);
  }
  throw base::UserError("unknown device '" + name + "'" + base::suggestion(name, names));
}

// The vocabulary, and the tokens of a row: of the data set if it is there.
int64_t fill_in_from_data(train::Recipe& recipe) {
  const int64_t length = recipe.data.sequence_length;
  if (recipe.model.vocab_size > 0 && length > 0) return length;
  try {
    const data::TokenFile file(recipe.data.path, recipe.data.tokenizer);
    if (recipe.model.vocab_size == 0) recipe.model.vocab_size = file.tokenizer().vocab_size();
    return length > 0 ? length : file.longest();
  } catch (const base::UserError& error) {
    throw base::UserError("cannot plan without the data set, which says how many tokens there are: " +
                          std::string(error.what()) + " (--seq-length and --model.vocab_size take its place)");
  }
}

// As if the device were here.
void put_on(const train::DeviceRates* device, train::Recipe& recipe) {
  if (device == nullptr) return train::resolve(recipe);
  recipe.memory.resolve(/*on_gpu=*/true);
  recipe.compute.device = "cuda";
  recipe.compute.linear = "torch";
  if (recipe.compute.attention == "auto") recipe.compute.attention = "cudnn";
  if (recipe.compute.dtype == "fp32") recipe.compute.dtype = "bf16";
}

// Of a step, from rates that were measured.
double seconds_of(const train::Recipe& recipe, const train::DeviceRates& device, int64_t rows, int64_t tokens) {
  const auto& [config, memory] = std::pair(recipe.model, recipe.memory);
  const auto S = static_cast<double>(tokens), T = S * static_cast<double>(rows);
  const double products = 2 * static_cast<double>(config.num_parameters()) * T;  // of a forward pass
  const double attention =
      2 * static_cast<double>(config.num_layers * config.num_heads * config.head_size()) * S * T;  // likewise
  const bool again = memory.checkpoint_every() > 0;
  return products * (again ? 4 : 3) / device.products +
         attention * (again && !memory.keeps_attention() ? 2 : 1) / device.attention +
         2.5 * attention / device.attention_backward;
}

std::string techniques_of(const train::Recipe& recipe) {
  const std::string options = train::as_options(recipe.memory);
  return options.empty() ? "no technique" : options;
}

void print_terms(const train::StepMemory& step, const train::Recipe& recipe) {
  std::printf("%-12s %11s  %s\n", "term", "at the peak", "smaller with");
  for (size_t i = 0; i < memory::kNumTerms; ++i) {
    const auto term = static_cast<memory::Term>(i);
    if (step.by_term[i] == 0) continue;
    std::printf("%-12s %11s  %s\n", memory::to_string(term), base::format_bytes(step.by_term[i]).c_str(),
                train::removed_by(term, recipe).c_str());
  }
}

void print_json(const train::Recipe& recipe, const train::StepMemory& step, int64_t rows, int64_t tokens, int64_t limit,
                const train::DeviceRates* device) {
  nlohmann::ordered_json terms;
  for (size_t i = 0; i < memory::kNumTerms; ++i) {
    terms[memory::to_string(static_cast<memory::Term>(i))] = step.by_term[i];
  }
  nlohmann::ordered_json line{{"rows", rows},
                              {"tokens", tokens},
                              {"processes", recipe.parallel.processes},
                              {"limit", limit},
                              {"memory", base::to_json(recipe.memory)},
                              {"device_bytes", step.device},
                              {"host_bytes", step.on_host},
                              {"file_bytes", step.in_files},
                              {"sent_bytes", step.traffic.bytes_sent},
                              {"terms", terms}};
  if (device != nullptr && recipe.parallel.processes == 1) line["seconds"] = seconds_of(recipe, *device, rows, tokens);
  std::printf("%s\n", line.dump().c_str());
}

void run_plan(const PlanOptions& options) {
  const train::DeviceRates* const device = device_named(options.device);
  train::Recipe recipe = train::read_recipe(options.recipe, options.options);
  if (options.tokens > 0) recipe.data.sequence_length = options.tokens;
  const int64_t tokens = fill_in_from_data(recipe);
  train::resolve_processes(recipe, recipe.parallel.degrees().processes());
  const int64_t rows = train::rows_of_process(recipe), processes = recipe.parallel.processes;
  if (recipe.model.has_learned_positions()) recipe.model.max_positions = std::max(recipe.model.max_positions, tokens);
  put_on(device, recipe);
  const bool on_gpu = recipe.compute.device != "cpu";
  int64_t limit = device != nullptr ? device->bytes : train::limit_of(recipe.compute);
  if (!options.limit.empty()) {
    const auto given = base::parse_bytes(options.limit);
    if (!given) throw base::UserError("expected --memory-limit to be a size, got '" + options.limit + "'");
    limit = given->count;
  }
  const bool chooses = recipe.memory.automatic;
  train::choose_techniques(recipe, rows, tokens, limit);
  const train::StepMemory step = train::dry_step(recipe, rows, tokens);
  if (options.json) return print_json(recipe, step, rows, tokens, limit, device);
  const std::string where = on_gpu ? (device != nullptr ? std::string(device->name) : "the GPU") : "the CPU";
  const std::string shared = processes > 1 ? " of one of " + std::to_string(processes) + " processes" : "";
  std::printf("a step%s of %s x %s tokens in %s on %s, %s parameters\n\n", shared.c_str(),
              base::format_count(rows).c_str(), base::format_count(tokens).c_str(), recipe.compute.dtype.c_str(),
              where.c_str(), base::format_count(recipe.model.num_parameters()).c_str());
  if (chooses) std::printf("memory.auto takes %s\n\n", techniques_of(recipe).c_str());
  print_terms(step, recipe);
  std::printf(
      "%-12s %11s  %s\n", "in all", base::format_bytes(step.device).c_str(),
      limit > 0 ? ((step.device <= limit ? "fits in " : "more than ") + base::format_bytes(limit)).c_str() : "");
  const int64_t on_host = step.on_host;
  if (on_host > 0) std::printf("%-12s %11s\n", "on the host", base::format_bytes(on_host).c_str());
  if (step.in_files > 0) std::printf("%-12s %11s\n", "in files", base::format_bytes(step.in_files).c_str());
  if (processes > 1) {
    std::printf("%-12s %11s  a step, by each process\n", "sent", base::format_bytes(step.traffic.bytes_sent).c_str());
  }
  if (device != nullptr && processes == 1) {  // what exchanges take is not known
    const double seconds = seconds_of(recipe, *device, rows, tokens);
    const double flops = step_flops(recipe.model, tokens) * static_cast<double>(rows);
    std::printf(
        "%-12s about %s a step, %.0f %% of %.0f TFLOP/s: an estimate from rates %s\n", "time",
        seconds < 10 ? (std::to_string(seconds).substr(0, 4) + " s").c_str() : base::format_duration(seconds).c_str(),
        100 * flops / seconds / device->peak, device->peak / 1e12, std::string(device->source).c_str());
  }
  if (limit <= 0) return;
  std::printf("\n%-24s %15s  %s\n", "techniques", "longest", "a step of these tokens");
  Progress progress;
  for (const train::Rung& rung : train::ways_to_fit(recipe)) {
    train::Recipe changed = recipe;
    changed.memory = rung.memory;
    const int64_t unit = std::max<int64_t>(64, tokens / 64 / 64 * 64);
    const int64_t longest = train::longest_sequence(
        changed, rows, limit, {.step = unit, .share = 0.01},
        [&](int64_t length) { progress.begin(rung.name + ": trying " + base::format_count(length) + " tokens"); });
    const int64_t takes = train::dry_step(changed, rows, tokens).device;
    progress.finish();
    std::printf("%-24s %15s  %s%s\n", rung.name.c_str(), base::format_count(longest).c_str(),
                base::format_bytes(takes).c_str(), takes <= limit ? "" : ", too much");
  }
  const auto rung = train::fastest_that_fits(recipe, rows, tokens, limit);
  const std::string fits = rung ? train::as_options(rung->memory) : "";
  std::printf("\n%s\n", !rung          ? "nothing makes these tokens fit: take fewer in a row"
                        : fits.empty() ? "it fits as it is"
                                       : ("the fastest set that fits: " + fits).c_str());
}

}  // namespace

void add_plan(CLI::App& app) {
  CLI::App* command = app.add_subcommand("plan", "says what memory a recipe's step takes, and what makes it fit");
  const auto options = std::make_shared<PlanOptions>();
  command->add_option("recipe", options->recipe, "TOML file; options below override it")->required();
  command->add_option("--device", options->device, "plan for h200, h100, a100-80 or a100-40, which need not be here");
  command->add_option("--memory-limit", options->limit, "of the device; else its memory, or compute.memory_limit");
  command->add_option("--seq-length", options->tokens, "data.sequence_length; no data set is read then");
  command->add_flag("--json", options->json, "one line, with all numbers, without other sets of techniques");
  for (const std::string& name : base::option_names(train::Recipe())) {
    if (name == "compute.memory_limit" || name == "data.sequence_length") continue;
    command
        ->add_option_function<std::string>("--" + name,
                                           [=](const std::string& text) { options->options.emplace_back(name, text); })
        ->group("Options of a recipe (longfold train --help)");
  }
  command->callback([options] { run_plan(*options); });
}

}  // namespace longfold::cli
