// longfold prepare: FASTA, GenBank and GFF3 to tokens.
#include "longfold/data/prepare.h"

#include <algorithm>
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

constexpr int64_t kListed = 5;  // coding sequences that were left out and are named; the .json has all

void print_coding(const data::TokenFileInfo& info) {
  const data::Taking& taking = info.taking;
  const auto count = [](int64_t number) { return base::format_count(number); };
  print_row("coding", taking.coding,
            "coding sequences (CDS) found; left out: " + count(std::ssize(info.left_out)) + " (pseudo " +
                count(taking.pseudo) + ", partial " + count(taking.partial) + ", broken " + count(taking.broken) +
                ", remote " + count(taking.remote) + ")");
  for (int64_t i = 0; i < std::min(std::ssize(info.left_out), kListed); ++i) {
    const data::LeftOut& one = info.left_out[static_cast<size_t>(i)];
    std::printf("    left out  %s, %s %s: %s\n", base::printable(one.name, base::kShownName).c_str(),
                base::printable(one.record, base::kShownName).c_str(),
                base::printable(one.location, base::kShownName).c_str(),
                base::printable(one.kind + ", " + one.why, 2 * base::kShownName).c_str());
  }
  if (std::ssize(info.left_out) > kListed) {
    std::printf("    and %s more, listed in the .json\n", count(std::ssize(info.left_out) - kListed).c_str());
  }
}

void run(const data::PrepareOptions& options) {
  const data::PrepareReport report = data::prepare(options, catch_signals(""));
  for (const std::string& warning : report.warnings) {
    std::fprintf(stderr, "longfold: warning: %s\n", base::printable(warning).c_str());
  }
  const data::PrepareCounts& counts = report.info.counts;
  const data::Taking& taking = report.info.taking;
  std::printf("%s: tokenizer %s, frame %s\n", base::printable(options.output).c_str(), options.tokenizer.c_str(),
              options.frame.c_str());
  if (options.coding()) print_coding(report.info);
  if (taking.drop_duplicates) {
    print_row("duplicates", taking.duplicates, "left out: the same as one before, or as its reverse complement");
  }
  if (taking.split_by == "position" && options.coding()) {
    print_row("across", taking.across, "left out: on both sides of a border between two parts");
  }
  print_row("records", counts.records, options.coding() ? "taken" : "read");
  print_row("bases", counts.bases, "read");
  print_row("tokens", counts.tokens, "written; sequences: " + base::format_count(report.num_sequences));
  print_row("ambiguous", counts.ambiguous,
            "bases that are IUPAC codes; tokens [UNK]: " + base::format_count(counts.unknown));
  print_row("skipped", counts.skipped, "records too short for a token");
  print_row("truncated", counts.truncated, "bases outside every token: before the frame or in a partial codon");
  if (!options.split.wanted()) return;
  for (const data::PreparedSet& set : report.sets) {
    print_row(set.info.taking.part.c_str(), set.num_sequences,
              "sequences, " + base::format_count(set.info.counts.tokens) + " tokens: " + base::printable(set.prefix));
  }
}

}  // namespace

void add_prepare(CLI::App& app) {
  CLI::App* command = app.add_subcommand("prepare", "FASTA, GenBank and GFF3 files to a data set of tokens");
  const auto options = std::make_shared<data::PrepareOptions>();
  command
      ->add_option("input", options->inputs,
                   "FASTA, GenBank or GFF3 files, plain, gzip or BGZF; - reads standard input")
      ->required()
      ->type_name("INPUT");
  command->add_option("--output,-o", options->output, "writes PREFIX.bin, PREFIX.idx and PREFIX.json")
      ->required()
      ->type_name("PREFIX");
  command->add_option("--tokenizer", options->tokenizer, "genslm69 (codons) or nucleotide")->capture_default_str();
  command->add_option("--frame", options->frame, "reading frame 0, 1, 2, or all: a sequence for each")
      ->capture_default_str();
  command->add_option("--take", options->take, "records, or cds: the coding sequences of GenBank or GFF3")
      ->capture_default_str();
  command->add_flag("--keep-partial", options->keep_partial, "coding sequences too of which an end is not there");
  command->add_option("--window", options->window, "cuts each sequence into such of so many tokens")
      ->type_name("TOKENS");
  command
      ->add_option("--stride", options->stride, "tokens from one window to the next; as many as --window if not given")
      ->type_name("TOKENS");
  command->add_flag("--reverse-complement", options->reverse_complement,
                    "adds the reverse complement of each sequence");
  command->add_flag("--drop-duplicates", options->drop_duplicates,
                    "leaves out what came before, also as reverse complement; a split always does");
  command->add_flag("--soft-mask", options->soft_mask,
                    "writes PREFIX.mask too: which tokens have lower-case bases, for data.masked_weight");
  command->add_option("--val", options->split.val, "fraction for PREFIX-val; the rest is PREFIX-train")
      ->type_name("FRACTION");
  command->add_option("--test", options->split.test, "fraction for PREFIX-test")->type_name("FRACTION");
  command->add_option("--split-by", options->split.by, "record, contig, position (along each record) or cluster")
      ->capture_default_str();
  command->add_option("--clusters", options->split.clusters, "two columns, name and cluster, for --split-by cluster")
      ->type_name("FILE");
  command->add_option("--split-seed", options->split.seed, "of which goes where")->capture_default_str();
  command->callback([options] { run(*options); });
}

}  // namespace longfold::cli
