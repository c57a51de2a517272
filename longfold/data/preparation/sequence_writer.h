// Bases to the token sequences of one data set, one for each reading frame that has a token. Letters come in pieces, so
// that memory does not grow with a record's length.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "longfold/base/files.h"
#include "longfold/data/token_file.h"

namespace longfold::data {

// Tokens of one frame until those of the frames before it are written: in memory at first, then in a file without a
// name beside the output, whose disk must have room for them anyway. They take as many bytes as in the output.
class Spool {
 public:
  explicit Spool(std::filesystem::path folder) : folder_(std::move(folder)) {}
  void push(const std::vector<int32_t>& ids, const TokenFileWriter& writer);
  void move_to(TokenFileWriter& writer);

 private:
  static constexpr size_t kInMemory = 1 << 20;

  std::filesystem::path folder_;
  std::vector<char> memory_;
  std::unique_ptr<base::NamelessFile> file_;
  bool in_file_ = false;
};

class SequenceWriter {
 public:
  // A mask goes with one frame only.
  SequenceWriter(std::string prefix, const Tokenizer& tokenizer, const std::vector<int64_t>& frames, bool with_mask);

  void begin(SequenceInfo info) { info_ = std::move(info); }
  void add(std::string_view bases);  // nucleotides
  void end();
  void write(SequenceInfo info, std::string_view bases);

  [[nodiscard]] const std::string& prefix() const { return prefix_; }
  [[nodiscard]] const PrepareCounts& counts() const { return counts_; }
  [[nodiscard]] int64_t num_sequences() const { return num_sequences_; }
  [[nodiscard]] TokenFileWriter& file() { return file_; }

 private:
  std::string prefix_;
  std::vector<int64_t> frames_;
  bool with_mask_;
  TokenFileWriter file_;
  std::vector<Encoder> encoders_;
  std::vector<Spool> spools_;
  std::vector<int32_t> ids_;
  SequenceInfo info_;
  PrepareCounts counts_;
  int64_t num_sequences_ = 0;
};

}  // namespace longfold::data
