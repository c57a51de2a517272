// longfold bench reach: the longest sequence whose training step fits in a limit, technique by technique.
#include <ATen/Parallel.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "longfold/base/error.h"
#include "longfold/base/fields.h"
#include "longfold/base/text.h"
#include "longfold/cli/bench_model.h"
#include "longfold/cli/commands.h"
#include "longfold/cli/progress.h"
#include "longfold/train/device.h"
#include "longfold/train/plan.h"
#include "longfold/train/processes.h"

namespace longfold::cli {
namespace {

struct ReachOptions {
  std::string recipe, preset, limit = "2GiB";
  std::vector<std::pair<std::string, std::string>> options;
  double confirm = 0;
  int64_t step = 64, threads = 0;
  bool json = false;
};

struct Row {
  train::Rung rung;
  int64_t tokens = 0;
  train::StepMemory planned;
  int64_t measured = 0;  // bytes; 0: no real step was taken
  double seconds = 0;    // of it
};

// Its own business: each row has others.
void refuse_techniques(const ReachOptions& options) {
  for (const auto& [name, text] : options.options) {
    if (!name.starts_with("memory.") || name == "memory.folder" || name.ends_with("_tokens")) continue;
    throw base::UserError("unexpected option '--" + name +
                          "': bench reach turns the techniques on itself, one by one (bench step takes a set of them)");
  }
}

train::Recipe recipe_of(const ReachOptions& options) {
  refuse_techniques(options);
  if (options.recipe.empty() == options.preset.empty()) {
    throw base::UserError("expected a recipe or --preset, one of the two");
  }
  train::Recipe recipe;
  if (options.recipe.empty()) {
    recipe.model = model::named_config(options.preset, "");
    for (const auto& [name, text] : options.options) base::set_field(recipe, name, text);
  } else {
    recipe = train::read_recipe(options.recipe, options.options);
  }
  if (recipe.model.vocab_size == 0) recipe.model.vocab_size = kBenchVocabulary;
  recipe.memory.validate();
  train::resolve(recipe);
  train::resolve_processes(recipe, recipe.parallel.degrees().processes());
  if (options.confirm > 0 && recipe.parallel.processes > 1) {
    throw base::UserError("expected --confirm to be 0 with " + std::to_string(recipe.parallel.processes) +
                          " processes: a real step is one process's");
  }
  return recipe;
}

// Seconds that a step may take, from what the last one took: attention grows with the square.
double estimate(const std::vector<Row>& rows, const train::Recipe& recipe, int64_t tokens) {
  double rate = 20e9;  // FLOP/s, before any was measured
  for (const Row& row : rows) {
    if (row.seconds > 0) rate = step_flops(recipe.model, row.tokens) / row.seconds;
  }
  return step_flops(recipe.model, tokens) / rate;
}

void take_real_step(const train::Recipe& recipe, int64_t limit, Row& row) {
  const auto counted = memory::MemoryMeter::install();
  BenchModel model(recipe, row.tokens);
  if (model.device().is_cpu()) counted.set_limit({limit + limit / 10});
  model.meter().trim();  // of what the rows before left with a GPU's allocator
  model.meter().reset_peak();
  const auto start = std::chrono::steady_clock::now();
  (void)model.take_step();
  row.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  row.measured = model.meter().held_peak();
}

void print(const Row& row, int64_t of_dense) {
  const std::string ratio =
      of_dense > 0 ? std::to_string(static_cast<double>(row.tokens) / static_cast<double>(of_dense)) : "";
  std::string waits;
  if (const int64_t on_host = row.planned.on_host; on_host > 0) {
    waits = base::format_bytes(on_host) + " on the host";
  }
  if (row.planned.in_files > 0) waits += base::format_bytes(row.planned.in_files) + " in files";
  std::string real = "dry run";
  if (row.seconds > 0) {
    const double error = static_cast<double>(row.planned.device) / static_cast<double>(row.measured) - 1;
    char text[64];
    std::snprintf(text, sizeof text, "%.1f s, %s (plan %+.1f %%)", row.seconds,
                  base::format_bytes(row.measured).c_str(), 100 * error);
    real = text;
  }
  std::printf("%-22s %11s  %7.7s  %10s  %-20s %s\n", row.rung.name.c_str(), base::format_count(row.tokens).c_str(),
              ratio.c_str(), base::format_bytes(row.planned.device).c_str(), waits.c_str(), real.c_str());
  std::fflush(stdout);
}

nlohmann::ordered_json as_json(const Row& row) {
  return {{"techniques", row.rung.name},
          {"memory", base::to_json(row.rung.memory)},
          {"tokens", row.tokens},
          {"planned_bytes", row.planned.device},
          {"host_bytes", row.planned.on_host},
          {"file_bytes", row.planned.in_files},
          {"measured_bytes", row.measured},
          {"seconds", row.seconds}};
}

void bench_reach(const ReachOptions& options) {
  const auto limit = base::parse_bytes(options.limit);
  if (!limit || limit->count <= 0)
    throw base::UserError("expected --memory-limit to be a size, got '" + options.limit + "'");
  if (options.step < 1) throw base::UserError("expected --step to be at least 1, got " + std::to_string(options.step));
  if (options.threads > 0) at::set_num_threads(static_cast<int>(options.threads));
  const train::Recipe recipe = recipe_of(options);
  if (!options.json) {
    std::printf(
        "longest sequence whose training step takes at most %s of the %s; %s\n\n%-22s %11s  %7s  %10s  %-20s %s\n",
        base::format_bytes(limit->count).c_str(), recipe.compute.device == "cpu" ? "CPU's memory" : "GPU's memory",
        recipe.compute.dtype.c_str(), "techniques", "tokens", "x dense", "plan", "waits", "a real step");
  }
  Progress progress;
  std::vector<Row> rows;
  for (train::Rung& rung : train::ladder(recipe)) {
    Row row;
    row.rung = rung;
    train::Recipe changed = recipe;
    changed.memory = rung.memory;
    row.tokens = train::longest_sequence(changed, 1, limit->count, {.step = options.step}, [&](int64_t tokens) {
      progress.begin(rung.name + ": trying " + base::format_count(tokens) + " tokens");
    });
    if (row.tokens > 0) {
      row.planned = train::dry_step(changed, 1, row.tokens);
      if (estimate(rows, recipe, row.tokens) < options.confirm) {
        progress.begin(rung.name + ": a step of " + base::format_count(row.tokens) + " tokens");
        take_real_step(changed, limit->count, row);
      }
    }
    progress.finish();
    rows.push_back(row);
    if (!options.json) print(rows.back(), rows.front().tokens);
  }
  if (!options.json) return;
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const Row& row : rows) all.push_back(as_json(row));
  std::printf("%s\n", nlohmann::ordered_json{{"limit", limit->count},
                                             {"model", base::to_json(recipe.model)},
                                             {"dtype", recipe.compute.dtype},
                                             {"device", recipe.compute.device},
                                             {"rows", all}}
                          .dump()
                          .c_str());
}

}  // namespace

void add_bench_reach(CLI::App& bench) {
  const auto options = std::make_shared<ReachOptions>();
  CLI::App* reach = bench.add_subcommand("reach", "the longest sequence that fits in a limit, technique by technique");
  reach->add_option("recipe", options->recipe, "TOML file whose model, device and dtype are taken");
  reach->add_option("--preset", options->preset, "model.preset, in place of a recipe");
  reach->add_option("--memory-limit", options->limit, "of the device")->capture_default_str();
  reach->add_option("--confirm", options->confirm, "seconds that a real step may take to confirm the longest; 0 = none")
      ->capture_default_str();
  reach->add_option("--step", options->step, "tokens by which lengths differ")->capture_default_str();
  reach->add_option("--threads", options->threads, "0 = one for each core")->check(CLI::Range(0, 4096));
  reach->add_flag("--json", options->json, "one line, with all numbers");
  for (const std::string& name : base::option_names(train::Recipe())) {
    if (name == "compute.memory_limit" || name == "compute.threads") continue;
    reach
        ->add_option_function<std::string>("--" + name,
                                           [=](const std::string& text) { options->options.emplace_back(name, text); })
        ->group("Options of a recipe (longfold train --help)");
  }
  reach->callback([options] { bench_reach(*options); });
}

}  // namespace longfold::cli
