#include "longfold/data/prepare.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <memory>
#include <set>
#include <system_error>
#include <unordered_set>
#include <utility>

#include "longfold/base/error.h"
#include "longfold/base/files.h"
#include "longfold/base/text.h"
#include "longfold/data/readers/fasta.h"
#include "longfold/data/tokenizer.h"

namespace longfold::data {
namespace {

using base::RunError;
using base::UserError;

std::vector<int64_t> parse_frames(const std::string& frame, const Tokenizer& tokenizer) {
  const int64_t letters = tokenizer.letters_per_token();
  std::vector<int64_t> frames;
  for (int64_t i = 0; i < letters; ++i) {
    if (frame == "all" || frame == std::to_string(i)) frames.push_back(i);
  }
  const bool known = frame == "0" || frame == "1" || frame == "2" || frame == "all";
  if (!known) throw UserError("expected frame 0, 1, 2 or all, got '" + frame + "'");
  if (letters == 1 && frame != "0") {
    throw UserError("expected frame 0 for tokenizer '" + tokenizer.name() + "', whose tokens are single letters, got " +
                    frame);
  }
  return frames;
}

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

// Tokens of one frame until those of the frames before it are written: in memory at first, then in a file without a
// name beside the output, whose disk must have room for them anyway. They take as many bytes as in the output.
class Spool {
 public:
  explicit Spool(std::filesystem::path folder) : folder_(std::move(folder)) {}

  void push(const std::vector<int32_t>& ids, const TokenFileWriter& writer) {
    writer.encode(ids, memory_);
    if (memory_.size() < kInMemory) return;
    if (!file_) file_ = std::make_unique<base::NamelessFile>(folder_);
    file_->write(memory_.data(), memory_.size());
    in_file_ = true;
    memory_.clear();
  }

  void move_to(TokenFileWriter& writer) {
    if (in_file_) {
      file_->rewind();
      std::vector<char> block(kInMemory);
      while (const size_t count = file_->read(block.data(), block.size())) writer.append_encoded({block.data(), count});
      file_->clear();
      in_file_ = false;
    }
    writer.append_encoded(memory_);
    memory_.clear();
  }

 private:
  static constexpr size_t kInMemory = 1 << 20;

  std::filesystem::path folder_;
  std::vector<char> memory_;
  std::unique_ptr<base::NamelessFile> file_;
  bool in_file_ = false;
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

// Turns the events of FASTA readers into sequences, one per frame that has a token.
class Preparation {
 public:
  Preparation(const Tokenizer& tokenizer, const std::vector<int64_t>& frames, const std::filesystem::path& folder,
              TokenFileWriter& writer)
      : writer_(writer), frames_(frames) {
    for (const int64_t frame : frames) {
      encoders_.emplace_back(tokenizer, frame);
      spools_.emplace_back(folder);
    }
  }

  // Ctrl-C stops what feeds a pipe too, so that the input ends early, perhaps in the middle of a gzip member.
  void read(const std::string& path, const std::atomic<bool>& stop) {
    try {
      read_records(path, stop);
    } catch (const UserError&) {
      check(stop);
      throw;
    }
    check(stop);
  }

  [[nodiscard]] std::vector<std::string> warnings() const {
    std::vector<std::string> all = warnings_;
    if (repeated_.count > 0) {
      all.push_back(repeated_.text(" record has a name that came before", " records have names that came before"));
    }
    if (nameless_.count > 0) all.push_back(nameless_.text(" record has no name", " records have no name"));
    return all;
  }

  [[nodiscard]] const PrepareCounts& counts() const { return counts_; }
  [[nodiscard]] int64_t num_sequences() const { return num_sequences_; }

 private:
  static void check(const std::atomic<bool>& stop) {
    if (stop) throw RunError("interrupted: nothing was written");
  }

  void read_records(const std::string& path, const std::atomic<bool>& stop) {
    FastaReader reader(path);
    FastaEvent event;
    bool open = false;
    while (reader.next(event)) {
      check(stop);
      if (event.kind == FastaEvent::Kind::kRecord) {
        if (open) end_record();
        open = true;
        begin_record(event, path);
      } else {
        add(event, path);
      }
    }
    if (open) end_record();
    if (!reader.warning().empty()) warnings_.push_back(reader.warning());
  }

  void begin_record(const FastaEvent& event, const std::string& path) {
    const size_t first = std::min(event.text.find_first_not_of(" \t"), event.text.size());
    const std::string_view words = event.text.substr(first);
    name_ = words.substr(0, words.find_first_of(" \t"));
    if (name_.empty())
      nameless_.add(place(path, event.line));
    else if (!names_.insert(name_).second)
      repeated_.add("'" + base::printable(name_, base::kShownName) + "', " + place(path, event.line));
  }

  void add(const FastaEvent& event, const std::string& path) {
    if (const auto bad = find_non_nucleotide(event.text)) {
      const char letter = event.text[*bad];
      throw UserError(place(path, event.line) + ":" + std::to_string(event.column + static_cast<int64_t>(*bad)) +
                      ": record '" + base::printable(name_, base::kShownName) +
                      "': expected a nucleotide (A C G T U or an IUPAC ambiguity code), got " + show_letter(letter) +
                      (letter == '>' ? " (the text before a header is cut, or lacks its line end)" : ""));
    }
    for (size_t i = 0; i < frames_.size(); ++i) {
      ids_.clear();
      encoders_[i].encode(event.text, ids_);
      if (i == 0)
        writer_.append(ids_);
      else
        spools_[i].push(ids_, writer_);
    }
  }

  void end_record() {
    int64_t tokens_of_record = 0;
    for (size_t i = 0; i < frames_.size(); ++i) {
      const Encoder::Counts counts = encoders_[i].finish();
      if (i == 0) {
        counts_.bases += counts.bases;
        counts_.ambiguous += counts.ambiguous;
      }
      counts_.unknown += counts.unknown;
      counts_.truncated += counts.truncated;
      tokens_of_record += counts.tokens;
      spools_[i].move_to(writer_);
      if (counts.tokens == 0) continue;
      writer_.end_sequence({name_, frames_[i]});
      ++num_sequences_;
    }
    ++counts_.records;
    counts_.tokens += tokens_of_record;
    counts_.skipped += tokens_of_record == 0;
  }

  TokenFileWriter& writer_;
  std::vector<int64_t> frames_;
  std::vector<Encoder> encoders_;
  std::vector<Spool> spools_;
  std::vector<int32_t> ids_;
  std::string name_;
  std::unordered_set<std::string> names_;
  std::vector<std::string> warnings_;
  Tally repeated_;
  Tally nameless_;
  PrepareCounts counts_;
  int64_t num_sequences_ = 0;
};

}  // namespace

PrepareReport prepare(const PrepareOptions& options, const std::atomic<bool>& stop) {
  const Tokenizer tokenizer = make_tokenizer(options.tokenizer);
  const std::vector<int64_t> frames = parse_frames(options.frame, tokenizer);
  const std::filesystem::path output = options.output;
  if (output.filename().empty() || output.filename() == "." || output.filename() == "..") {
    throw UserError("expected the output to be a prefix such as folder/name, got '" + options.output + "'");
  }
  if (output.extension() == ".bin" || output.extension() == ".idx" || output.extension() == ".json") {
    throw UserError("expected the output to be a prefix, to which .bin, .idx and .json are added, got '" +
                    options.output + "': type -o '" + (output.parent_path() / output.stem()).string() + "'");
  }
  std::vector<std::string> warnings = check_inputs(options.inputs);
  OutputFolder folder(output.parent_path());  // before the writer, so that it goes after the writer's files
  TokenFileWriter writer(options.output, tokenizer);
  Preparation preparation(tokenizer, frames, output.parent_path(), writer);
  for (const std::string& input : options.inputs) preparation.read(input, stop);
  std::ranges::copy(preparation.warnings(), std::back_inserter(warnings));
  if (preparation.num_sequences() == 0) {
    throw UserError("no record is long enough for a token: expected at least " +
                    std::to_string(tokenizer.letters_per_token()) + " bases, got " +
                    std::to_string(preparation.counts().bases) + " bases in " +
                    std::to_string(preparation.counts().records) + " records");
  }
  PrepareReport report{
      {options.inputs, options.frame, preparation.counts()}, preparation.num_sequences(), std::move(warnings)};
  writer.commit(report.info);
  folder.keep();
  return report;
}

}  // namespace longfold::data
