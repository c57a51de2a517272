#include "longfold/data/prepare.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <memory>
#include <set>
#include <span>
#include <system_error>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "longfold/base/error.h"
#include "longfold/base/files.h"
#include "longfold/base/text.h"
#include "longfold/data/preparation/sequence_writer.h"
#include "longfold/data/preparation/splits.h"
#include "longfold/data/preparation/taker.h"
#include "longfold/data/readers/fasta.h"
#include "longfold/data/readers/formats.h"
#include "longfold/data/readers/genbank.h"
#include "longfold/data/readers/gff.h"
#include "longfold/data/readers/nucleotides.h"
#include "longfold/data/tokenizer.h"

namespace longfold::data {
namespace {

using base::RunError;
using base::UserError;

// A folder that is made where it is missing, with its parents. Unless kept, those made are removed again.
class OutputFolder {
 public:
  explicit OutputFolder(const std::filesystem::path& folder) {
    std::error_code unreadable;  // make_folder will say so
    for (std::filesystem::path missing = folder; !missing.empty() && !std::filesystem::exists(missing, unreadable);) {
      made_.push_back(missing);
      missing = missing.parent_path();
    }
    if (!folder.empty()) base::make_folder(folder);
  }
  ~OutputFolder() {
    std::error_code ignored;  // a folder in which somebody else has begun to write stays
    for (const std::filesystem::path& folder : made_) std::filesystem::remove(folder, ignored);
  }
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;
  void keep() { made_.clear(); }

 private:
  std::vector<std::filesystem::path> made_;  // the innermost first
};

// Things that happened, counted, with the first of them.
struct Tally {
  int64_t count = 0;
  std::string first;

  void add(const std::string& what) {
    if (count++ == 0) first = what;
  }
  [[nodiscard]] std::string text(const std::string& one, const std::string& several) const {
    return base::format_count(count) + (count == 1 ? one : several) + (count == 1 ? ": " : ", the first: ") + first;
  }
};

std::string place(const std::string& path, int64_t line) {
  return (path == "-" ? "standard input" : path) + ":" + std::to_string(line);
}

// A file that is given twice by whatever name.
std::vector<std::string> check_inputs(const std::vector<std::string>& inputs) {
  if (std::ranges::count(inputs, "-") > 1) throw UserError("expected standard input (-) once, got it several times");
  std::set<std::pair<dev_t, ino_t>> seen;
  Tally again;
  for (const std::string& path : inputs) {
    struct stat status{};
    if (path == "-" || ::stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) continue;
    if (!seen.emplace(status.st_dev, status.st_ino).second) again.add("'" + path + "'");
  }
  if (again.count == 0) return {};
  return {again.text(" input is a file that came before", " inputs are files that came before") +
          " (its records are in the data set again)"};
}

enum class InputKind { kFasta, kGenBank, kGff };

InputKind kind_of(ByteStream& stream) {
  std::string_view bytes = stream.peek(kFormatBytes);
  if (bytes.starts_with("\xef\xbb\xbf")) bytes.remove_prefix(3);
  bytes.remove_prefix(std::min(bytes.find_first_not_of(" \t\r\n"), bytes.size()));
  if (bytes.starts_with("LOCUS ")) return InputKind::kGenBank;
  return looks_like_gff(bytes) ? InputKind::kGff : InputKind::kFasta;
}

// Reads the inputs. Records of FASTA go to the one writer in pieces where that can be, all others whole to the taker.
class Preparation {
 public:
  Preparation(const PrepareOptions& options, const Splits& splits, const Tokenizer& tokenizer,
              std::span<const std::unique_ptr<SequenceWriter>> writers)
      : options_(options), writer_(*writers[0]), taker_(options, splits, tokenizer.letters_per_token(), writers) {}

  // Ctrl-C stops what feeds a pipe too, so that the input ends early, perhaps in the middle of a gzip member.
  void read(const std::string& path, const std::atomic<bool>& stop) {
    try {
      read_input(path, stop);
    } catch (const UserError&) {
      check(stop);
      throw;
    }
    check(stop);
  }

  // Coding sequences of GFF3 files, whose genomes may have come after them.
  void finish() {
    for (Annotation& annotation : annotations_) {
      for (AnnotatedRecord& record : annotation.gff.annotations) {
        if (!record.coding.empty()) take_annotated(record, annotation);
      }
    }
    if (annotations_.empty() && !genome_.empty()) {
      throw UserError(first_genome_ + " has no coding sequences: expected GenBank, or GFF3 beside it, for --take cds");
    }
  }

  [[nodiscard]] std::vector<std::string> warnings() const {
    std::vector<std::string> all = warnings_;
    if (repeated_.count > 0) {
      all.push_back(repeated_.text(" record has a name that came before", " records have names that came before"));
    }
    if (nameless_.count > 0) all.push_back(nameless_.text(" record has no name", " records have no name"));
    return all;
  }

  [[nodiscard]] const Taker& taker() const { return taker_; }

 private:
  struct Annotation {
    std::string name;
    Gff gff;
  };

  static void check(const std::atomic<bool>& stop) {
    if (stop) throw RunError("interrupted: nothing was written");
  }

  void read_input(const std::string& path, const std::atomic<bool>& stop) {
    auto stream = std::make_unique<ByteStream>(path);
    const InputKind kind = kind_of(*stream);
    if (kind == InputKind::kGenBank) return read_genbank(std::move(stream), path, stop);
    if (kind == InputKind::kGff) return read_annotation(std::move(stream), path, stop);
    read_fasta(std::move(stream), path, stop);
  }

  void read_genbank(std::unique_ptr<ByteStream> stream, const std::string& path, const std::atomic<bool>& stop) {
    if (options_.soft_mask) {
      throw UserError(stream->shown() +
                      " is GenBank, whose bases are lower case whatever they are: expected FASTA or " +
                      "GFF3 for --soft-mask");
    }
    GenBankReader reader(std::move(stream));
    AnnotatedRecord record;
    while (reader.next(record)) {
      check(stop);
      note_name(record.name, path, record.line);
      taker_.take(record);
    }
    warn(reader.warning());
  }

  void read_annotation(std::unique_ptr<ByteStream> stream, const std::string& path, const std::atomic<bool>& stop) {
    const std::string shown = stream->shown();
    const std::string name = stream->name();
    Gff gff = read_gff(std::move(stream));
    check(stop);
    warn(gff.warning);
    if (options_.coding()) {
      annotations_.push_back({name, std::move(gff)});
      return;
    }
    if (gff.sequences.empty()) {
      throw UserError(shown +
                      " has no sequences (no ##FASTA part): give the FASTA file of its genome instead, or both " +
                      "with --take cds");
    }
    for (const AnnotatedRecord& record : gff.sequences) {
      note_name(record.name, path, record.line);
      taker_.take(record);
    }
  }

  void read_fasta(std::unique_ptr<ByteStream> stream, const std::string& path, const std::atomic<bool>& stop) {
    if (first_genome_.empty()) first_genome_ = stream->shown();
    const bool streams = options_.streams();
    FastaReader reader(std::move(stream));
    FastaEvent event;
    AnnotatedRecord record;
    bool open = false;
    const auto end_record = [&] {
      if (!open) return;
      streams ? writer_.end() : take_fasta(record, path);
    };
    while (reader.next(event)) {
      check(stop);
      if (event.kind == FastaEvent::Kind::kRecord) {
        end_record();
        open = true;
        const size_t first = std::min(event.text.find_first_not_of(" \t"), event.text.size());
        const std::string_view words = event.text.substr(first);
        record = {.name = std::string(words.substr(0, words.find_first_of(" \t"))), .line = event.line};
        note_name(record.name, path, event.line);
        if (streams) writer_.begin({.name = record.name});
        continue;
      }
      check_nucleotides(event.text, record.name, path == "-" ? "standard input" : path, event.line, event.column);
      if (streams)
        writer_.add(event.text);
      else
        record.bases += event.text;
    }
    end_record();
    warn(reader.warning());
  }

  void take_fasta(AnnotatedRecord& record, const std::string& path) {
    if (!options_.coding()) return taker_.take(record);
    const std::string name = record.name;
    const int64_t line = record.line;
    if (genome_.try_emplace(name, std::move(record)).second) return;
    throw UserError(place(path, line) + ": sequence '" + base::printable(name, base::kShownName) +
                    "' came before: expected each name once, for GFF3 to mean one of them");
  }

  void take_annotated(AnnotatedRecord& record, const Annotation& annotation) {
    const std::vector<AnnotatedRecord>& own = annotation.gff.sequences;
    const auto within = std::ranges::find(own, record.name, &AnnotatedRecord::name);
    const auto beside = genome_.find(record.name);
    if (within == own.end() && beside == genome_.end()) {
      throw UserError(place(annotation.name, record.line) + ": expected the sequence '" +
                      base::printable(record.name, base::kShownName) +
                      "' in a ##FASTA part or in a FASTA file beside it, got none of that name");
    }
    record.bases = within != own.end() ? within->bases : beside->second.bases;
    taker_.take(record);
    record = {};
  }

  void note_name(const std::string& name, const std::string& path, int64_t line) {
    if (name.empty())
      nameless_.add(place(path, line));
    else if (!names_.insert(name).second)
      repeated_.add("'" + base::printable(name, base::kShownName) + "', " + place(path, line));
  }

  void warn(const std::string& warning) {
    if (!warning.empty()) warnings_.push_back(warning);
  }

  const PrepareOptions& options_;
  SequenceWriter& writer_;
  Taker taker_;
  std::unordered_map<std::string, AnnotatedRecord> genome_;  // FASTA beside GFF3
  std::string first_genome_;
  std::vector<Annotation> annotations_;
  std::unordered_set<std::string> names_;
  std::vector<std::string> warnings_;
  Tally repeated_;
  Tally nameless_;
};

std::vector<std::unique_ptr<SequenceWriter>> make_writers(const PrepareOptions& options, const Splits& splits,
                                                          const Tokenizer& tokenizer) {
  const std::vector<int64_t> frames = parse_frames(options.frame, tokenizer);
  std::vector<std::unique_ptr<SequenceWriter>> writers;
  if (!options.split.wanted()) {
    writers.push_back(std::make_unique<SequenceWriter>(options.output, tokenizer, frames, options.soft_mask));
    return writers;
  }
  for (const size_t part : splits.parts()) {
    writers.push_back(std::make_unique<SequenceWriter>(options.output + "-" + std::string(kPartNames[part]), tokenizer,
                                                       frames, options.soft_mask));
  }
  return writers;
}

void add(PrepareCounts& sum, const PrepareCounts& more) {
  sum.records += more.records;
  sum.bases += more.bases;
  sum.tokens += more.tokens;
  sum.ambiguous += more.ambiguous;
  sum.unknown += more.unknown;
  sum.skipped += more.skipped;
  sum.truncated += more.truncated;
}

void check_any(const PrepareReport& report, const Tokenizer& tokenizer) {
  const Taking& taking = report.info.taking;
  const auto count = [](int64_t number) { return std::to_string(number); };
  if (report.num_sequences == 0 && taking.take == "cds") {
    const std::string first = report.info.left_out.empty() ? "" : ", the first because " + report.info.left_out[0].why;
    throw UserError("no coding sequence is left: expected at least one, got " + count(taking.coding) + " of which " +
                    count(std::ssize(report.info.left_out)) + " were left out" + first);
  }
  if (report.num_sequences == 0) {
    throw UserError("no record is long enough for a token: expected at least " + count(tokenizer.letters_per_token()) +
                    " bases, got " + count(report.info.counts.bases) + " bases in " +
                    count(report.info.counts.records) + " records");
  }
  for (const PreparedSet& set : report.sets) {
    if (set.num_sequences > 0) continue;
    throw UserError("nothing of " + count(report.num_sequences) + " sequences fell to '" + set.prefix +
                    "': expected a larger fraction, another --split-seed or another --split-by for so few");
  }
}

}  // namespace

PrepareReport prepare(const PrepareOptions& options, const std::atomic<bool>& stop) {
  const Tokenizer tokenizer = make_tokenizer(options.tokenizer);
  check_options(options, tokenizer);
  const Splits splits(options.split);
  PrepareReport report;
  report.warnings = check_inputs(options.inputs);
  OutputFolder folder(std::filesystem::path(options.output).parent_path());  // goes after the writers' files
  const std::vector<std::unique_ptr<SequenceWriter>> writers = make_writers(options, splits, tokenizer);
  Preparation preparation(options, splits, tokenizer, writers);
  for (const std::string& input : options.inputs) preparation.read(input, stop);
  preparation.finish();
  std::ranges::copy(preparation.warnings(), std::back_inserter(report.warnings));

  report.info = {options.inputs, options.frame, {}, preparation.taker().taking(), preparation.taker().left_out()};
  const std::vector<size_t> parts = splits.parts();
  for (size_t i = 0; i < writers.size(); ++i) {
    PreparedSet set{writers[i]->prefix(), report.info, writers[i]->num_sequences()};
    set.info.counts = writers[i]->counts();
    if (options.split.wanted()) set.info.taking.part = kPartNames[parts[i]];
    add(report.info.counts, set.info.counts);
    report.num_sequences += set.num_sequences;
    report.sets.push_back(std::move(set));
  }
  check_any(report, tokenizer);
  std::vector<std::pair<TokenFileWriter*, const TokenFileInfo*>> files;
  for (size_t i = 0; i < writers.size(); ++i) files.emplace_back(&writers[i]->file(), &report.sets[i].info);
  TokenFileWriter::commit_all(files);
  folder.keep();
  return report;
}

}  // namespace longfold::data
