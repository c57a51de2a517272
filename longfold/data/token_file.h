// A data set of token sequences: three files beside each other, or four.
//
//   PREFIX.bin   the ids, raw, little endian; u16 if the vocabulary is below 65,500, else i32
//   PREFIX.idx   Megatron's index: "MMIDIDX\0\0", u64 version 1, u8 dtype, u64 sequences, u64 documents + 1,
//                i32 lengths[], i64 byte offsets[], i64 document starts[]
//   PREFIX.mask  if asked for: a bit for each token, the first the lowest of the first byte; 1 if a base of it is
//                soft-masked (lower case)
//   PREFIX.json  what Megatron has no place for: tokenizer table and hash, sources, names of sequences, counts
//
// megatron.core.datasets.indexed_dataset reads the first two. Each sequence is a document of its own. Beside a pair
// that Megatron wrote, a .json of format, version and tokenizer is enough.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "longfold/base/files.h"
#include "longfold/base/fnv.h"
#include "longfold/data/data_set_info.h"
#include "longfold/data/token_index.h"
#include "longfold/data/tokenizer.h"

namespace longfold::data {

// Writes a data set in a stream. Nothing appears under the final names before commit(). It brings all bytes to the disk
// first, then removes the .json that stood there and renames the new one last: a data set that a crash left between two
// of the renames has no .json and cannot be opened, so tokens of one never meet the index of another.
class TokenFileWriter {
 public:
  // UserError if the folder cannot be written.
  TokenFileWriter(std::string prefix, const Tokenizer& tokenizer, bool with_mask = false);
  void append(std::span<const int32_t> ids);  // to the sequence under way
  // The same in two steps: adds the bytes of the ids to `bytes`, for append_encoded() later.
  void encode(std::span<const int32_t> ids, std::vector<char>& bytes) const;
  void append_encoded(std::span<const char> bytes);
  void append_mask(const std::vector<bool>& masked);  // of as many tokens as were appended, with_mask only
  void end_sequence(SequenceInfo info);               // UserError if longer than the format can say
  void commit(const TokenFileInfo& info);             // RunError
  // The same for several data sets: none is renamed before all are on the disk and no .json of theirs is left.
  static void commit_all(std::span<const std::pair<TokenFileWriter*, const TokenFileInfo*>> sets);

 private:
  void stage(const TokenFileInfo& info);
  void publish();

  std::string prefix_;
  Tokenizer tokenizer_;
  TokenDtype dtype_;
  base::AtomicFile bin_;
  base::AtomicFile idx_;
  base::AtomicFile json_;
  base::Fnv1a64 hash_;
  int64_t length_ = 0;  // of the sequence under way
  std::vector<int32_t> lengths_;
  std::vector<SequenceInfo> sequences_;
  std::vector<char> encoded_;
  std::optional<base::AtomicFile> mask_;
  base::Fnv1a64 mask_hash_;
  unsigned mask_byte_ = 0;  // under way
  int64_t mask_bits_ = 0;   // written so far, those under way too
};

// A data set, mapped into memory. Everything the files say is checked when they are opened, except the tokens
// themselves: their range when they are read, their hash by check_content().
class TokenFile {
 public:
  // `tokenizer` is what a pair without a .json is read with; beside one it must be the same. UserError that names the
  // file and what was found.
  explicit TokenFile(const std::string& prefix, const std::string& tokenizer = "");
  ~TokenFile();
  TokenFile(TokenFile&&) noexcept;
  TokenFile& operator=(TokenFile&&) noexcept;

  [[nodiscard]] const std::string& prefix() const;
  [[nodiscard]] const Tokenizer& tokenizer() const;
  [[nodiscard]] const TokenFileInfo& info() const;
  [[nodiscard]] const std::string& content_hash() const;  // "fnv1a64:..." of PREFIX.bin, taken when it was written
  // Reads all of PREFIX.bin. UserError naming it if its hash is not content_hash(): it was changed after it was
  // written.
  void check_content() const;
  [[nodiscard]] int64_t num_sequences() const;
  [[nodiscard]] int64_t num_tokens() const;
  [[nodiscard]] int64_t length(int64_t sequence) const;
  [[nodiscard]] int64_t longest() const;
  [[nodiscard]] const SequenceInfo& sequence(int64_t sequence) const;
  // int64 [count] on the CPU, a copy. UserError outside the sequence or for an id outside the vocabulary.
  [[nodiscard]] at::Tensor tokens(int64_t sequence, int64_t offset, int64_t count) const;
  [[nodiscard]] bool has_mask() const;
  [[nodiscard]] std::vector<bool> masked(int64_t sequence, int64_t offset, int64_t count) const;  // with has_mask()
  [[nodiscard]] at::Tensor tokens(int64_t sequence) const { return tokens(sequence, 0, length(sequence)); }

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace longfold::data
