// longfold prepare: FASTA to tokens.
#include "longfold/data/prepare.h"

#include <cstdio>
#include <memory>
#include <string>

#include "longfold/base/text.h"
#include "longfold/cli/commands.h"
#include "longfold/cli/signals.h"

namespace longfold::cli {
namespace {

void print_row(const char* name, int64_t count, const std::string& note) {
  std::printf("  %-10s %15s  %s\n", name, base::format_count(count).c_str(), note.c_str());
}

void run(const data::PrepareOptions& options) {
  const data::PrepareReport report = data::prepare(options, catch_signals(""));
  for (const std::string& warning : report.warnings) {
    std::fprintf(stderr, "longfold: warning: %s\n", base::printable(warning).c_str());
  }
  const data::PrepareCounts& counts = report.info.counts;
  std::printf("%s: tokenizer %s, frame %s\n", base::printable(options.output).c_str(), options.tokenizer.c_str(),
              options.frame.c_str());
  print_row("records", counts.records, "read");
  print_row("bases", counts.bases, "read");
  print_row("tokens", counts.tokens, "written; sequences: " + base::format_count(report.num_sequences));
  print_row("ambiguous", counts.ambiguous,
            "bases that are IUPAC codes; tokens [UNK]: " + base::format_count(counts.unknown));
  print_row("skipped", counts.skipped, "records too short for a token");
  print_row("truncated", counts.truncated, "bases outside every token: before the frame or in a partial codon");
}

}  // namespace

void add_prepare(CLI::App& app) {
  CLI::App* command = app.add_subcommand("prepare", "FASTA files to a data set of tokens");
  const auto options = std::make_shared<data::PrepareOptions>();
  command->add_option("input", options->inputs, "FASTA files, plain, gzip or BGZF; - reads standard input")
      ->required()
      ->type_name("INPUT");
  command->add_option("--output,-o", options->output, "writes PREFIX.bin, PREFIX.idx and PREFIX.json")
      ->required()
      ->type_name("PREFIX");
  command->add_option("--tokenizer", options->tokenizer, "genslm69 (codons) or nucleotide")->capture_default_str();
  command->add_option("--frame", options->frame, "reading frame 0, 1, 2, or all: a sequence for each")
      ->capture_default_str();
  command->callback([options] { run(*options); });
}

}  // namespace longfold::cli
