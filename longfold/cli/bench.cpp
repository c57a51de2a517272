// longfold bench step: how long a training step takes, with random weights and tokens.
#include <ATen/Parallel.h>

#include <algorithm>
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
#include "longfold/cli/step_profile.h"

namespace longfold::cli {
namespace {

struct BenchOptions {
  std::string preset = "genslm-25m", device = "cpu", dtype = "fp32", linear = "auto", attention = "auto";
  int64_t tokens = 2048, steps = 5, threads = 0;
  bool json = false, any_order = false, profile = false, no_warm_up = false;
  std::vector<std::pair<std::string, std::string>> of_recipe;  // "memory.key", text
};

void expect_at_least_one(const char* option, int64_t value) {
  if (value >= 1) return;
  throw base::UserError(std::string("expected ") + option + " to be at least 1, got " + std::to_string(value));
}

void print_profile(const std::vector<ProfileRow>& rows) {
  if (rows.empty())
    throw base::RunError("torch's profiler saw nothing: is its access to the GPU's counters restricted?");
  double total = 0;
  for (const ProfileRow& row : rows) total += row.seconds;
  std::printf("%9s  %5s  %5s  of one more step, %.3f s in all\n", "ms", "%", "calls", total);
  for (const ProfileRow& row : rows) {
    if (row.seconds < 0.002 * total) break;
    std::printf("%9.3f  %5.1f  %5lld  %s\n", 1e3 * row.seconds, 100 * row.seconds / total,
                static_cast<long long>(row.calls), base::printable(row.name, 110).c_str());
  }
}

void bench_step(const BenchOptions& options) {
  expect_at_least_one("--tokens", options.tokens);
  expect_at_least_one("--steps", options.steps);
  if (options.json && options.profile) throw base::UserError("expected --json or --profile, got both");
  if (options.threads > 0) at::set_num_threads(static_cast<int>(options.threads));
  (void)memory::MemoryMeter::install();  // from the first tensor on
  train::Recipe recipe;
  recipe.model = bench_config(options.preset, options.tokens);
  recipe.compute.device = options.device;
  recipe.compute.dtype = options.dtype;
  recipe.compute.linear = options.linear;
  recipe.compute.attention = options.attention;
  recipe.compute.deterministic = !options.any_order;
  for (const auto& [name, text] : options.of_recipe) base::set_field(recipe, name, text);
  BenchModel model(std::move(recipe), options.tokens);
  const train::ComputeConfig& compute = model.recipe().compute;

  std::vector<double> seconds;
  std::vector<double> losses;
  for (int64_t step = 0; step <= options.steps; ++step) {  // the first, which fills the caches, does not count
    if (step == 0 && options.no_warm_up) continue;
    const auto start = std::chrono::steady_clock::now();
    losses.push_back(model.take_step());
    if (step > 0) seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::vector<double> sorted = seconds;
  std::ranges::sort(sorted);
  const double median = sorted[sorted.size() / 2];
  if (options.json) {
    const nlohmann::ordered_json line{{"preset", options.preset},
                                      {"dtype", options.dtype},
                                      {"tokens", options.tokens},
                                      {"threads", at::get_num_threads()},
                                      {"linear", compute.linear},
                                      {"device", compute.device},
                                      {"attention", compute.attention},
                                      {"memory", base::to_json(model.recipe().memory)},
                                      {"seconds", seconds},
                                      {"losses", losses},
                                      {"peak_bytes", model.meter().peak()},
                                      {"held_bytes", model.meter().held_peak()},
                                      {"planned_bytes", model.planned().device},
                                      {"host_bytes", model.planned().on_host},
                                      {"flops", step_flops(model.recipe().model, options.tokens)}};
    std::printf("%s\n", line.dump().c_str());
    return;
  }
  std::printf(
      "%s, %s, %lld tokens, %d threads, linear by %s: %.3f s a step (%.3f to %.3f), %.0f tokens/s, peak %.0f MiB\n",
      options.preset.c_str(), options.dtype.c_str(), static_cast<long long>(options.tokens), at::get_num_threads(),
      compute.linear.c_str(), median, sorted.front(), sorted.back(), static_cast<double>(options.tokens) / median,
      static_cast<double>(model.meter().peak()) / (1 << 20));
  if (!options.profile) return;
  StepProfile profile(!model.device().is_cpu());
  (void)model.take_step();
  print_profile(profile.rows());
}

}  // namespace

void add_bench(CLI::App& app) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* bench = app.add_subcommand("bench", "how fast this machine is");
  bench->require_subcommand(1);
  CLI::App* step =
      bench->add_subcommand("step", "times training steps of random weights and tokens, one sequence each");
  step->add_option("--preset", options->preset, "model.preset")->capture_default_str();
  step->add_option("--tokens", options->tokens, "in the sequence")->capture_default_str();
  step->add_option("--steps", options->steps, "steps that count, after one that does not")->capture_default_str();
  step->add_option("--threads", options->threads, "0 = one for each core")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  step->add_option("--device", options->device, "compute.device")->capture_default_str();
  step->add_option("--attention", options->attention, "compute.attention")->capture_default_str();
  step->add_flag("--any-order", options->any_order, "compute.deterministic = false");
  for (const std::string& name : base::option_names(train::Recipe())) {
    const bool is_limit = name == "compute.memory_limit";
    const bool is_of_model = name.starts_with("model.") && name != "model.preset";
    if (!name.starts_with("memory.") && !is_of_model && !is_limit) continue;
    step->add_option_function<std::string>(
            is_limit ? "--memory-limit,--" + name : "--" + name,
            [options, name](const std::string& text) { options->of_recipe.emplace_back(name, text); })
        ->group("Sizes and memory techniques, as in a recipe (longfold train --help)");
  }
  step->add_flag("--no-warm-up", options->no_warm_up, "the first step counts");
  step->add_option("--dtype", options->dtype, "compute.dtype")->capture_default_str();
  step->add_option("--linear", options->linear, "compute.linear")->capture_default_str();
  step->add_flag("--profile", options->profile, "where the time goes, by operator (on a GPU by kernel)");
  step->add_flag("--json", options->json, "every step's seconds and loss, in one line");
  step->callback([options] { bench_step(*options); });
  add_bench_reach(*bench);
  add_bench_comm(*bench);
}

}  // namespace longfold::cli
