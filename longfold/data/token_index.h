// The bytes of Megatron's .idx file (token_file.h has the layout), written and read with every number checked.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

namespace longfold::data {

enum class TokenDtype : uint8_t { kU8 = 1, kI8 = 2, kI16 = 3, kI32 = 4, kI64 = 5, kU16 = 8 };  // 6, 7: no tokens

[[nodiscard]] TokenDtype dtype_for(int64_t vocab_size);
[[nodiscard]] int64_t item_size(TokenDtype dtype);  // in bytes; 0 for a code that is no token type

// The .idx of sequences that lie one after the other in the .bin, each a document.
[[nodiscard]] std::vector<char> index_bytes(TokenDtype dtype, std::span<const int32_t> lengths);

template <class T>
void append_bytes(std::vector<char>& bytes, T value) {
  bytes.resize(bytes.size() + sizeof value);
  std::memcpy(bytes.data() + bytes.size() - sizeof value, &value, sizeof value);
}

// A view of the bytes of an .idx file, which must stay where they are.
class TokenIndex {
 public:
  TokenIndex() = default;
  TokenIndex(std::span<const char> bytes, const std::string& path);  // UserError naming path and what was found
  void check_bin_size(size_t size, const std::string& path) const;   // UserError

  [[nodiscard]] int64_t num_sequences() const { return num_sequences_; }
  [[nodiscard]] int64_t num_tokens() const { return num_tokens_; }
  [[nodiscard]] int64_t length(int64_t sequence) const;  // of a valid sequence
  [[nodiscard]] int64_t first_token(int64_t sequence) const { return byte_offset(sequence) / item_size(dtype_); }
  // Reads tokens [offset, offset + ids.size()) of a sequence, which it must have.
  void read(std::span<const char> bin, int64_t sequence, int64_t offset, std::span<int64_t> ids) const;

 private:
  [[nodiscard]] int64_t byte_offset(int64_t sequence) const;
  [[nodiscard]] int64_t document_start(int64_t document) const;
  void check_entries(const std::string& path);

  std::span<const char> bytes_;
  TokenDtype dtype_ = TokenDtype::kU16;
  int64_t num_sequences_ = 0;
  int64_t num_documents_ = 0;  // entries of the document table: documents + 1
  int64_t num_tokens_ = 0;
};

}  // namespace longfold::data
