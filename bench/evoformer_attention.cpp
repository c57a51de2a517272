// Evoformer attention by longfold, torch eager and torch SDPA (bias expanded), in one process, taking turns. Prints
// Markdown: times with their spread and ratios, share of the FMA peak, threads, memory, errors against fp64.
//
//   bench_evoformer_attention [--repeats N] [--threads N] [--small] [--write FOLDER]
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <string>
#include <thread>

#include "bench/fma_peak.h"
#include "bench/measure.h"
#include "longfold/base/text.h"
#include "longfold/kernels/isa.h"
#include "longfold/version.h"

namespace longfold::bench {
namespace {

struct Options {
  int repeats = 7;
  int threads = 0;
  bool small = false;
  std::string folder;  // where a dated page is to be written
};

// Prints a line and keeps it for the page.
class Report {
 public:
  [[gnu::format(printf, 2, 3)]] void line(const char* format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    std::printf("%s\n", text);
    std::fflush(stdout);
    text_ += std::string(text) + "\n";
  }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string text_;
};

std::string name_of(const Shape& s) {
  const char* dtype = s.dtype == at::kFloat ? "fp32" : s.dtype == at::kBFloat16 ? "bf16" : "fp16";
  return std::string(dtype) + " N" + std::to_string(s.sizes.N) + " L" + std::to_string(s.sizes.Lq) + " H" +
         std::to_string(s.sizes.H) + " D" + std::to_string(s.sizes.D);
}

// "key : value" of the first line of a Linux file that begins with `key`.
std::string line_of(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key)) return line.substr(line.find_first_not_of(" \t:", key.size()));
  }
  return "unknown";
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  char text[16];
  std::strftime(text, sizeof text, "%Y-%m-%d", std::localtime(&now));
  return text;
}

void report_machine(Report& report, const Options& options, const std::string& command, double peak) {
  report.line("# Evoformer attention on the CPU, %s\n", today().c_str());
  report.line("- command: `%s`", command.c_str());
  report.line("- machine: %s, %u processors, memory %s", line_of("/proc/cpuinfo", "model name").c_str(),
              std::thread::hardware_concurrency(), line_of("/proc/meminfo", "MemTotal").c_str());
  report.line("- longfold %s (%s kernels), torch %s, %d threads", kVersion,
              std::string(kernels::isa_name(kernels::selected_isa())).c_str(), kTorchVersion, options.threads);
  report.line("- FMA peak %.0f GFLOP/s fp32: a loop of independent vector multiply-adds, times threads\n", peak / 1e9);
}

void report_times(Report& report, const std::vector<Shape>& shapes, const Options& options, double peak) {
  report.line(
      "| shape | case | by | forward | forward + backward | GFLOP/s | of peak | both of peak | x forward | x both |");
  report.line("|---|---|---|---|---|---|---|---|---|---|");
  for (const Shape& s : shapes) {
    const std::vector<Times> times = measure_times(s, options.repeats);
    const double flops = 4.0 * static_cast<double>(s.sizes.N * s.sizes.Lq * s.sizes.Lk * s.sizes.H * s.sizes.D);
    for (size_t i = 0; i < times.size(); ++i) {
      const Spread &forward = times[i].forward, &both = times[i].both;
      report.line("| %s | %s | %s | %.2f (%.2f-%.2f) | %.2f (%.2f-%.2f) | %.0f | %.0f%% | %.0f%% | %.1f | %.1f |",
                  name_of(s).c_str(), s.sizes.name, kContenders[i].name, forward.median, forward.least, forward.most,
                  both.median, both.least, both.most, flops / forward.median / 1e6,
                  100 * flops / forward.median * 1e3 / peak, 100 * 3.5 * flops / both.median * 1e3 / peak,
                  forward.median / times[0].forward.median, both.median / times[0].both.median);
    }
  }
}

void report_scaling(Report& report, const std::vector<Shape>& shapes, const Options& options) {
  report.line("\n## Threads\n");
  report.line("longfold with one thread and with %d, in turn: how many times faster.\n", options.threads);
  report.line("| shape | forward | forward + backward |\n|---|---|---|");
  for (const Shape& s : shapes) {
    const Scaling scaling = measure_scaling(s, options.repeats, options.threads);
    report.line("| %s | %.2f | %.2f |", name_of(s).c_str(), scaling.one.forward.median / scaling.many.forward.median,
                scaling.one.both.median / scaling.many.both.median);
  }
}

void report_memory(Report& report, const std::vector<Shape>& shapes, const memory::MemoryMeter& meter) {
  report.line("\n## Memory\n");
  report.line("Peak beyond the inputs, outputs and gradients included, by the counting allocator.\n");
  report.line("| shape | by | forward | forward + backward |\n|---|---|---|---|");
  for (const Shape& s : shapes) {
    const std::vector<Memory> memory = measure_memory(s, meter);
    for (size_t i = 0; i < memory.size(); ++i) {
      report.line("| %s | %s | %s | %s |", name_of(s).c_str(), kContenders[i].name,
                  base::format_bytes(memory[i].forward).c_str(), base::format_bytes(memory[i].both).c_str());
    }
  }
}

void report_errors(Report& report) {
  report.line("\n## Errors\n");
  report.line("The largest of the output, and of all gradients, over the largest exact value: against fp64.\n");
  report.line("| shape | bias std | by | out | gradients |\n|---|---|---|---|---|");
  for (const Shape& s : error_shapes()) {
    const std::vector<Errors> errors = measure_errors(s);
    for (size_t i = 0; i < errors.size(); ++i) {
      report.line("| %s | %.0f | %s | %.1e | %.1e |", name_of(s).c_str(), s.bias_std, kContenders[i].name,
                  errors[i].out, errors[i].grads);
    }
  }
}

int usage(const char* program) {
  std::fprintf(stderr, "usage: %s [--repeats N] [--threads N] [--small] [--write FOLDER]\n", program);
  return 2;
}

int run(int argc, char** argv) {
  Options options;
  options.threads = at::get_num_threads();
  std::string command = "build/release/bench/bench_evoformer_attention";
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    command += " " + word;
    if (word == "--small") {
      options.small = true;
      continue;
    }
    if (i + 1 == argc) return usage(argv[0]);
    const std::string value = argv[++i];
    command += " " + value;
    if (word == "--write") {
      options.folder = value;
    } else if ((word == "--repeats" || word == "--threads") && std::atoi(value.c_str()) > 0) {
      (word == "--repeats" ? options.repeats : options.threads) = std::atoi(value.c_str());
    } else {
      return usage(argv[0]);
    }
  }
  at::set_num_threads(options.threads);
  const double peak = fma_peak_of_one_thread() * options.threads;
  const std::vector<Shape> shapes = options.small ? small_shapes() : all_shapes();
  Report report;
  report_machine(report, options, command, peak);
  report.line("## Times\n");
  report.line(
      "Milliseconds, median (least-most) of %d, contenders in turn, torch's own allocator. SDPA's time includes",
      options.repeats);
  report.line(
      "adding up its bias. Work: 4 N L^2 H D flop forward, 2.5 times that backward; its rate as a share of the");
  report.line("fp32 FMA peak (bf16 products may pass it).\n");
  report_times(report, shapes, options, peak);
  if (options.threads > 1) report_scaling(report, shapes, options);
  const auto meter = memory::MemoryMeter::install();
  report.line("\n## Times without page faults\n");
  report.line(
      "The same with an allocator that keeps freed blocks. torch's hands large ones back to the system, and every");
  report.line("page of a new one costs a fault, most where the logits are materialised.\n");
  report_times(report, shapes, options, peak);
  report_memory(report, shapes, meter);
  report_errors(report);
  if (!options.folder.empty()) {
    const std::string path = options.folder + "/evoformer-cpu-" + today() + ".md";
    std::ofstream page(path);
    page << report.text();
    if (!page.flush()) {
      std::fprintf(stderr, "bench_evoformer_attention: cannot write %s\n", path.c_str());
      return 1;
    }
  }
  return 0;
}

}  // namespace
}  // namespace longfold::bench

int main(int argc, char** argv) {
  return longfold::bench::run(argc, argv);
}
