// longfold bench comm: what processes send in a training step, counted, beside the formulas.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "longfold/base/error.h"
#include "longfold/base/fields.h"
#include "longfold/base/text.h"
#include "longfold/cli/bench_model.h"
#include "longfold/cli/commands.h"
#include "longfold/train/device.h"
#include "longfold/train/dry_step.h"
#include "longfold/train/processes.h"

namespace longfold::cli {
namespace {

struct CommOptions {
  std::string preset = "genslm-25m";
  int64_t tokens = 65536;
  bool json = false;
  std::vector<std::pair<std::string, std::string>> of_recipe;
};

struct Row {
  std::string axis, formula;
  double counted = 0, expected = 0;  // bytes
};

// By the formulas: N tokens of a row, h and kv the width of all heads of queries and of keys, in elements. Ulysses
// moves queries, keys, values and the output of each forward pass, and again with their gradients in backward; what it
// moves besides, the log-sum-exp of a row, is in no formula.
std::vector<Row> rows_of(const train::Recipe& recipe, const train::StepMemory& step, int64_t tokens) {
  const auto degrees = recipe.parallel.degrees();
  const auto U = static_cast<double>(degrees.ulysses), R = static_cast<double>(degrees.ring);
  const auto P = static_cast<double>(degrees.data) * U * R;
  const auto D = static_cast<double>(recipe.model.head_size());
  const double heads = static_cast<double>(recipe.model.num_heads), keys = static_cast<double>(recipe.model.kv_heads());
  const double element = recipe.compute.dtype == "fp32" ? 4 : 2, sum = 4;
  const double own = static_cast<double>(tokens) / (U * R);
  const auto layers = static_cast<double>(recipe.model.num_layers);
  const bool again = recipe.memory.checkpoint_every() > 0 && !recipe.memory.keeps_attention();
  const double keys_here = std::max(keys, U);  // fewer are copied before they travel
  const double forward = 2 * heads + 2 * keys_here, backward = 4 * heads + 4 * keys_here;
  const double parameters = static_cast<double>(recipe.model.num_parameters());
  const double passes = again ? 2 : 1;
  std::vector<Row> all;
  if (U > 1) {
    all.push_back({"ulysses", again ? "(2 x 4 + 8) N h / P, of (P - 1) / P" : "(4 + 8) N h / P, of (P - 1) / P",
                   static_cast<double>(step.sent_by_ulysses) / layers,
                   (passes * forward + backward) * own * D * element * (U - 1) / U});
  }
  if (R > 1) {
    // Keys and values in each pass; in backward the sums of their gradients besides, which go all the way home.
    all.push_back({"ring", "2 N kv (P - 1) / P a pass, their gradients 2 N kv",
                   static_cast<double>(step.sent_by_ring) / layers,
                   2 * own * keys_here * D * ((passes + 1) * (R - 1) * element + R * sum)});
  }
  all.push_back({"gradients", "2 parameters (P - 1) / P, a step", static_cast<double>(step.sent_for_gradients),
                 2 * parameters * sum * (P - 1) / P});
  return all;
}

void bench_comm(const CommOptions& options) {
  train::Recipe recipe;
  recipe.model = bench_config(options.preset, options.tokens);
  for (const auto& [name, text] : options.of_recipe) base::set_field(recipe, name, text);
  recipe.data.sequence_length = options.tokens;
  recipe.model.validate();
  recipe.memory.validate();
  train::resolve(recipe);
  const int64_t processes =
      recipe.parallel.processes > 0 ? recipe.parallel.processes : recipe.parallel.ring * recipe.parallel.ulysses;
  if (processes == 1) {
    throw base::UserError("expected several processes, got one (--parallel.ulysses 4, or --parallel.processes 4)");
  }
  recipe.parallel.processes = processes;
  recipe.data.batch_size = recipe.parallel.degrees().data;
  train::resolve_processes(recipe, processes);
  const train::StepMemory step = train::dry_step(recipe, 1, options.tokens);
  const std::vector<Row> rows = rows_of(recipe, step, options.tokens);
  if (options.json) {
    nlohmann::ordered_json line;
    for (const Row& row : rows) line[row.axis] = {{"counted", row.counted}, {"formula", row.expected}};
    line["sent_bytes"] = step.traffic.bytes_sent;
    std::printf("%s\n", line.dump().c_str());
    return;
  }
  const auto degrees = recipe.parallel.degrees();
  std::printf("what each of data %ld x ring %ld x ulysses %ld processes sends in a step of %s tokens in %s\n\n",
              long{degrees.data}, long{degrees.ring}, long{degrees.ulysses}, base::format_count(options.tokens).c_str(),
              recipe.compute.dtype.c_str());
  std::printf("%-10s %12s  %12s  %7s\n", "", "counted", "formula", "error");
  for (const Row& row : rows) {
    std::printf("%-10s %12s  %12s  %+5.1f %%  %s%s\n", row.axis.c_str(),
                base::format_bytes(static_cast<int64_t>(row.counted)).c_str(),
                base::format_bytes(static_cast<int64_t>(row.expected)).c_str(), 100 * (row.counted / row.expected - 1),
                row.formula.c_str(), row.axis == "gradients" ? "" : ", a layer and step");
  }
  std::printf("%-10s %12s  a step\n", "in all", base::format_bytes(step.traffic.bytes_sent).c_str());
}

}  // namespace

void add_bench_comm(CLI::App& bench) {
  const auto options = std::make_shared<CommOptions>();
  CLI::App* comm =
      bench.add_subcommand("comm", "what processes send in a step, counted by a dry run, beside the formulas");
  comm->add_option("--preset", options->preset, "model.preset")->capture_default_str();
  comm->add_option("--tokens", options->tokens, "in the sequence")->capture_default_str();
  comm->add_flag("--json", options->json, "one line, with all numbers");
  for (const std::string& name : base::option_names(train::Recipe())) {
    const bool is_of_model = name.starts_with("model.") && name != "model.preset";
    if (!is_of_model && !name.starts_with("memory.") && !name.starts_with("parallel.") && name != "compute.dtype") {
      continue;
    }
    comm->add_option_function<std::string>(
            "--" + name, [options, name](const std::string& text) { options->of_recipe.emplace_back(name, text); })
        ->group("Options of a recipe (longfold train --help)");
  }
  comm->callback([options] { bench_comm(*options); });
}

}  // namespace longfold::cli
