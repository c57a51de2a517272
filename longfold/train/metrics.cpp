#include "longfold/train/metrics.h"

#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "longfold/base/error.h"
#include "longfold/base/files.h"

namespace longfold::train {
namespace {

using Json = nlohmann::ordered_json;

Json number_or_null(std::optional<double> value) {
  return value && std::isfinite(*value) ? Json(*value) : Json();
}

// The lines of the steps up to `done`. A last line without its newline was cut off by a kill, and is dropped.
std::string lines_until(const std::filesystem::path& path, int64_t done) {
  const std::string text = base::read_file(path);
  size_t kept = 0;
  for (size_t end = text.find('\n'), number = 1; end != std::string::npos; end = text.find('\n', kept), ++number) {
    const Json json = Json::parse(text.substr(kept, end - kept), nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || !json.value("step", Json()).is_number_integer()) {
      throw base::UserError("'" + path.string() + "': line " + std::to_string(number) + " is no JSON with a step");
    }
    if (json["step"].get<int64_t>() > done) break;
    kept = end + 1;
  }
  return text.substr(0, kept);
}

}  // namespace

std::string to_json_line(const StepReport& report) {
  Json json = {{"step", report.step},
               {"loss", number_or_null(report.loss)},
               {"held_out_loss", number_or_null(report.held_out_loss)},
               {"validation_loss", number_or_null(report.validation_loss)},
               {"grad_norm", number_or_null(report.grad_norm)},
               {"learning_rate", report.learning_rate},
               {"tokens_per_second", report.tokens_per_second},
               {"seconds_waited", report.seconds_waited},
               {"skipped", report.skipped},
               {"memory_live", report.memory_live},
               {"memory_peak", report.memory_peak}};
  if (report.bytes_sent) {
    json["bytes_sent"] = *report.bytes_sent;
    json["seconds_exchanging"] = report.seconds_exchanging;
  }
  if (report.loss_scale) json["loss_scale"] = *report.loss_scale;
  return json.dump() + "\n";
}

MetricsFile::MetricsFile(std::filesystem::path path, int64_t done) : path_(std::move(path)) {
  base::write_file(path_, done > 0 && std::filesystem::exists(path_) ? lines_until(path_, done) : "");
  file_.reset(std::fopen(path_.c_str(), "ab"));
  if (!file_) throw base::UserError("cannot write '" + path_.string() + "': " + std::strerror(errno));
}

void MetricsFile::write(const StepReport& report) {
  const std::string line = to_json_line(report);
  if (std::fwrite(line.data(), 1, line.size(), file_.get()) != line.size() || std::fflush(file_.get()) != 0) {
    throw base::RunError("cannot write '" + path_.string() + "': " + std::strerror(errno));
  }
}

void MetricsFile::flush() {
  if (::fsync(::fileno(file_.get())) == 0) return;
  throw base::RunError("cannot write '" + path_.string() + "': " + std::strerror(errno));
}

}  // namespace longfold::train
