// longfold inspect: what a data set holds, and a slice of it decoded back.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "longfold/base/error.h"
#include "longfold/base/text.h"
#include "longfold/cli/commands.h"
#include "longfold/data/token_file.h"

namespace longfold::cli {
namespace {

constexpr int64_t kListed = 10;  // sequences named in the summary

struct InspectOptions {
  std::string prefix;
  std::string tokenizer;
  int64_t sequence = 0;
  int64_t offset = 0;
  int64_t count = 20;
};

// Text of the files, which may hold anything.
std::string shown(const std::string& name) {
  return name.empty() ? "(no name)" : base::printable(name, base::kShownName);
}

std::string list(const std::vector<std::string>& sources) {
  std::vector<std::string> named;
  for (const std::string& source : sources) {
    if (std::ssize(named) == kListed) break;
    named.push_back(base::printable(source));
  }
  const int64_t more = std::ssize(sources) - std::ssize(named);
  return base::join(named, ", ") + (more > 0 ? " and " + base::format_count(more) + " more" : "");
}

void print_history(const data::TokenFileInfo& info) {
  std::printf("  sources    %s\n", list(info.sources).c_str());
  std::printf("  frame      %s\n", shown(info.frame).c_str());
}

void print_counts(const data::PrepareCounts& counts) {
  data::PrepareCounts::fields(counts, [](std::string_view name, int64_t count, std::string_view help) {
    if (name == "tokens") return;  // in the summary
    std::printf("  %-10s %s (%s)\n", std::string(name).c_str(), base::format_count(count).c_str(),
                std::string(help).c_str());
  });
}

void print_taking(const data::TokenFileInfo& info) {
  const data::Taking& taking = info.taking;
  if (taking.take == "cds") {
    std::printf("  taken      %s of %s coding sequences; left out: pseudo %s, partial %s, broken %s, remote %s\n",
                base::format_count(taking.coding - std::ssize(info.left_out)).c_str(),
                base::format_count(taking.coding).c_str(), base::format_count(taking.pseudo).c_str(),
                base::format_count(taking.partial).c_str(), base::format_count(taking.broken).c_str(),
                base::format_count(taking.remote).c_str());
  }
  if (taking.drop_duplicates) std::printf("  duplicates %s left out\n", base::format_count(taking.duplicates).c_str());
  if (!taking.part.empty()) {
    std::printf("  part       %s of a split by %s (val %g, test %g, seed %ld)\n", shown(taking.part).c_str(),
                shown(taking.split_by).c_str(), taking.val, taking.test, long{taking.split_seed});
  }
}

// "b0002 (NC_000913.2 337..2799)", "chr1 (from base 301, reverse complement)".
std::string described(const data::SequenceInfo& sequence) {
  std::vector<std::string> words;
  if (!sequence.record.empty()) words.push_back(shown(sequence.record + " " + sequence.location));
  if (sequence.window > 0) words.push_back("from base " + base::format_count(sequence.window + 1));
  if (sequence.reverse) words.emplace_back("reverse complement");
  return shown(sequence.name) + (words.empty() ? "" : " (" + base::join(words, ", ") + ")");
}

void print_summary(const data::TokenFile& file) {
  const data::TokenFileInfo& info = file.info();
  const bool is_ours = !info.sources.empty();
  const data::Tokenizer& tokenizer = file.tokenizer();
  std::printf("%s\n", base::printable(file.prefix()).c_str());
  std::printf("  tokenizer  %s, %s entries, %s\n", shown(tokenizer.name()).c_str(),
              base::format_count(tokenizer.vocab_size()).c_str(), tokenizer.hash().c_str());
  if (is_ours) print_history(info);
  std::printf("  content    %s\n", shown(file.content_hash()).c_str());
  std::printf("  tokens     %s (in %s sequences, the longest %s)\n", base::format_count(file.num_tokens()).c_str(),
              base::format_count(file.num_sequences()).c_str(), base::format_count(file.longest()).c_str());
  if (is_ours) print_taking(info);
  if (is_ours) print_counts(info.counts);
  for (int64_t i = 0; i < std::min(file.num_sequences(), kListed); ++i) {
    std::printf("  sequence %ld: %s, frame %ld, %s tokens\n", long{i}, described(file.sequence(i)).c_str(),
                long{file.sequence(i).frame}, base::format_count(file.length(i)).c_str());
  }
  if (file.num_sequences() > kListed) {
    std::printf("  and %s more\n", base::format_count(file.num_sequences() - kListed).c_str());
  }
}

// Without --count, what is left of the sequence if that is less.
at::Tensor read_slice(const data::TokenFile& file, const InspectOptions& options, bool count_given) {
  const int64_t available = std::max<int64_t>(file.length(options.sequence) - options.offset, 0);
  return file.tokens(options.sequence, options.offset,
                     count_given ? options.count : std::min(options.count, available));
}

void print_slice(const data::TokenFile& file, const InspectOptions& options, const at::Tensor& tokens) {
  const std::span<const int64_t> ids(tokens.const_data_ptr<int64_t>(), static_cast<size_t>(tokens.numel()));
  std::printf("sequence %ld, %ld tokens from %ld\n", long{options.sequence}, long{tokens.numel()},
              long{options.offset});
  std::printf("  ids  ");
  for (const int64_t id : ids) std::printf(" %ld", long{id});
  std::printf("\n  text  %s\n", base::printable(file.tokenizer().decode(ids)).c_str());
}

}  // namespace

void add_inspect(CLI::App& app) {
  CLI::App* command = app.add_subcommand("inspect", "what a data set holds, and a slice of it decoded back");
  const auto options = std::make_shared<InspectOptions>();
  command->add_option("prefix", options->prefix, "prefix that `longfold prepare` wrote to")
      ->required()
      ->type_name("PREFIX");
  command->add_option("--tokenizer", options->tokenizer,
                      "what a pair that Megatron wrote is read with: genslm69 or nucleotide");
  command->add_option("--sequence", options->sequence, "sequence to decode")->capture_default_str();
  command->add_option("--offset", options->offset, "first token to decode")->capture_default_str();
  const CLI::Option* count =
      command->add_option("--count", options->count, "number of tokens to decode")->capture_default_str();
  command->callback([options, count] {
    const data::TokenFile file(options->prefix, options->tokenizer);
    const at::Tensor slice = read_slice(file, *options, count->count() > 0);
    print_summary(file);
    print_slice(file, *options, slice);
  });
}

}  // namespace longfold::cli
