// longfold report: a run's numbers as one page of HTML.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "longfold/base/error.h"
#include "longfold/base/files.h"
#include "longfold/base/text.h"
#include "longfold/cli/commands.h"
#include "longfold/cli/report_page.h"
#include "longfold/train/checkpoint.h"

namespace longfold::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

struct ReportOptions {
  std::string run, output;
};

// The lines of metrics.jsonl; a last one without its end is being written, and is left out.
std::vector<Json> read_metrics(const fs::path& path) {
  if (!fs::exists(path)) {
    throw base::UserError("expected a run's output folder, got '" + path.parent_path().string() +
                          "', which has no metrics.jsonl");
  }
  const std::string text = base::read_file(path);
  std::vector<Json> lines;
  for (size_t begin = 0, end = text.find('\n'); end != std::string::npos;
       begin = end + 1, end = text.find('\n', begin)) {
    lines.push_back(Json::parse(text.substr(begin, end - begin), nullptr, /*allow_exceptions=*/false));
    if (!lines.back().is_object() || !lines.back().value("step", Json()).is_number_integer()) {
      throw base::UserError("'" + path.string() + "': line " + std::to_string(lines.size()) +
                            " is no JSON with a step");
    }
  }
  if (lines.empty()) throw base::UserError("'" + path.string() + "' has no step yet");
  return lines;
}

// The steps at which the number is there.
Line line_of(const std::vector<Json>& metrics, const std::string& name, const char* key, int colour = 0,
             double divisor = 1) {
  Line line{name, colour, {}};
  for (const Json& step : metrics) {
    const Json value = step.value(key, Json());
    if (value.is_number()) line.points.emplace_back(step["step"].get<double>(), value.get<double>() / divisor);
  }
  return line;
}

std::string digits(double value) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.4f", value);
  return text.data();
}

std::string last_of(const Line& line) {
  return line.points.empty() ? "-" : digits(line.points.back().second);
}

std::string least_of(const Line& line) {
  const auto least = std::ranges::min_element(line.points, {}, [](const auto& point) { return point.second; });
  return digits(least->second) + " after step " + base::format_count(std::llround(least->first));
}

double median_of(const Line& line) {
  std::vector<double> values;
  for (const auto& point : line.points) values.push_back(point.second);
  std::ranges::sort(values);
  return values.empty() ? 0 : values[values.size() / 2];
}

void add_recipe(const Json& json, const std::string& prefix, Page& page) {
  for (const auto& [key, value] : json.items()) {
    if (value.is_object()) {
      add_recipe(value, prefix + key + ".", page);
    } else {
      page.recipe.emplace_back(prefix + key, value.is_string() ? value.get<std::string>() : value.dump());
    }
  }
}

Page make_page(const fs::path& run) {
  const std::vector<Json> metrics = read_metrics(run / "metrics.jsonl");
  const Line loss = line_of(metrics, "trained on", "loss"), held_out = line_of(metrics, "held out", "held_out_loss", 1),
             validation = line_of(metrics, "validation", "validation_loss", 2),
             speed = line_of(metrics, "tokens per second", "tokens_per_second"),
             peak = line_of(metrics, "at most", "memory_peak", 0, 1 << 20),
             live = line_of(metrics, "between steps", "memory_live", 1, 1 << 20);
  Page page;
  page.title = "Run " + run.string();
  page.facts = {{"steps", base::format_count(metrics.back()["step"].get<int64_t>())}, {"loss", last_of(loss)}};
  if (!held_out.points.empty()) page.facts.emplace_back("held-out loss", last_of(held_out));
  if (!validation.points.empty()) page.facts.emplace_back("least validation loss", least_of(validation));
  page.facts.emplace_back("speed, median", base::format_count(std::llround(median_of(speed))) + " tokens/s");
  if (!peak.points.empty()) {
    page.facts.emplace_back("memory", base::format_bytes(std::llround(peak.points.back().second * (1 << 20))));
  }
  const auto skipped =
      std::ranges::count_if(metrics, [](const Json& step) { return step.value("skipped", Json()) == true; });
  if (skipped > 0) {
    page.notes.emplace_back("skipped steps", base::format_count(skipped) + ": a loss or gradient was not a number");
  }
  page.charts = {
      {.title = "Loss", .unit = "nats per token", .lines = {loss, held_out, validation}},
      {.title = "Learning rate",
       .unit = "",
       .lines = {line_of(metrics, "learning rate", "learning_rate")},
       .from_zero = true},
      {.title = "Gradient norm",
       .unit = "before clipping",
       .lines = {line_of(metrics, "gradient norm", "grad_norm")},
       .from_zero = true},
      {.title = "Speed", .unit = "tokens per second", .lines = {speed}, .from_zero = true},
      {.title = "Memory", .unit = "MiB", .lines = {peak, live}, .from_zero = true},
  };
  if (const auto checkpoint = train::latest_checkpoint(run)) {
    add_recipe(train::read_manifest(*checkpoint).recipe, "", page);
  } else {
    page.notes.emplace_back("recipe", "not known: the run has no checkpoint yet");
  }
  return page;
}

}  // namespace

void add_report(CLI::App& app) {
  CLI::App* command = app.add_subcommand("report", "a run's losses, rates, speed and memory as one page of HTML");
  const auto options = std::make_shared<ReportOptions>();
  command->add_option("run", options->run, "a run's output folder")->required()->type_name("FOLDER");
  command->add_option("--output,-o", options->output, "file to write; left out: report.html in that folder")
      ->type_name("FILE");
  command->callback([options] {
    const fs::path run = options->run;
    const fs::path output = options->output.empty() ? run / "report.html" : fs::path(options->output);
    base::write_file(output, html(make_page(run)));
    std::printf("%s\n", base::printable(output.string()).c_str());
  });
}

}  // namespace longfold::cli
