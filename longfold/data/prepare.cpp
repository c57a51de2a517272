#include "longfold/data/prepare.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>
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

// Tokens of one frame until those of the frames before it are written: in memory at first, then in a nameless file.
class Spool {
 public:
  void push(const std::vector<int32_t>& ids) {
    if (ids.empty()) return;
    if (!file_) {
      file_.reset(std::tmpfile());
      if (!file_) throw RunError(std::string("cannot create a temporary file: ") + std::strerror(errno));
    }
    if (std::fwrite(ids.data(), sizeof(int32_t), ids.size(), file_.get()) != ids.size()) fail();
  }

  void move_to(TokenFileWriter& writer) {
    if (!file_) return;
    if (std::fflush(file_.get()) != 0) fail();
    std::rewind(file_.get());
    std::vector<int32_t> ids(1 << 16);
    while (const size_t count = std::fread(ids.data(), sizeof(int32_t), ids.size(), file_.get())) {
      writer.append({ids.data(), count});
    }
    if (std::ferror(file_.get())) fail();
    file_.reset();
  }

 private:
  [[noreturn]] static void fail() {
    throw RunError(std::string("cannot write a temporary file: ") + std::strerror(errno));
  }
  base::FileHandle file_;
};

// Turns the events of FASTA readers into sequences, one per frame that has a token.
class Preparation {
 public:
  Preparation(const Tokenizer& tokenizer, const std::vector<int64_t>& frames, TokenFileWriter& writer)
      : writer_(writer), frames_(frames), spools_(frames.size()) {
    for (const int64_t frame : frames) encoders_.emplace_back(tokenizer, frame);
  }

  void read(const std::string& path, const std::atomic<bool>& stop) {
    FastaReader reader(path);
    FastaEvent event;
    bool open = false;
    while (reader.next(event)) {
      if (stop) throw RunError("interrupted: nothing was written");
      if (event.kind == FastaEvent::Kind::kRecord) {
        if (open) end_record();
        open = true;
        name_ = event.text.substr(0, event.text.find_first_of(" \t"));
      } else {
        add(event, path);
      }
    }
    if (open) end_record();
  }

  [[nodiscard]] const PrepareCounts& counts() const { return counts_; }
  [[nodiscard]] int64_t num_sequences() const { return num_sequences_; }

 private:
  void add(const FastaEvent& event, const std::string& path) {
    if (const auto bad = find_non_nucleotide(event.text)) {
      throw UserError((path == "-" ? "standard input" : path) + ":" + std::to_string(event.line) + ":" +
                      std::to_string(event.column + static_cast<int64_t>(*bad)) + ": record '" + name_ +
                      "': expected a nucleotide (A C G T U or an IUPAC ambiguity code), got " +
                      show_letter(event.text[*bad]));
    }
    for (size_t i = 0; i < frames_.size(); ++i) {
      ids_.clear();
      encoders_[i].encode(event.text, ids_);
      if (i == 0)
        writer_.append(ids_);
      else
        spools_[i].push(ids_);
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
  OutputFolder folder(output.parent_path());  // before the writer, so that it goes after the writer's files
  TokenFileWriter writer(options.output, tokenizer);
  Preparation preparation(tokenizer, frames, writer);
  for (const std::string& input : options.inputs) preparation.read(input, stop);
  if (preparation.num_sequences() == 0) {
    throw UserError("no record is long enough for a token: expected at least " +
                    std::to_string(tokenizer.letters_per_token()) + " bases, got " +
                    std::to_string(preparation.counts().bases) + " bases in " +
                    std::to_string(preparation.counts().records) + " records");
  }
  PrepareReport report{{options.inputs, options.frame, preparation.counts()}, preparation.num_sequences()};
  writer.commit(report.info);
  folder.keep();
  return report;
}

}  // namespace longfold::data
