#include "longfold/data/token_index.h"

#include <array>
#include <cstring>
#include <limits>
#include <optional>
#include <string_view>

#include "longfold/base/error.h"
#include "longfold/base/text.h"
#include "longfold/data/readers/formats.h"

namespace longfold::data {
namespace {

using base::UserError;
using namespace std::string_view_literals;

constexpr std::string_view kMagic = "MMIDIDX\0\0"sv;
constexpr uint64_t kVersion = 1;
constexpr size_t kVersionAt = 9;
constexpr size_t kDtypeAt = 17;
constexpr size_t kSequencesAt = 18;
constexpr size_t kDocumentsAt = 26;
constexpr size_t kHeaderSize = 34;
constexpr uint64_t kMaxEntries = uint64_t{1} << 48;  // keeps every product below within 64 bits

template <class T>
T load(std::span<const char> bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);  // the tables are not aligned
  return value;
}

template <class T>
void widen(const char* from, std::span<int64_t> ids) {
  for (size_t i = 0; i < ids.size(); ++i) {
    T value;
    std::memcpy(&value, from + i * sizeof value, sizeof value);
    ids[i] = static_cast<int64_t>(value);
  }
}

std::string expected(const std::string& path, const std::string& what, const std::string& found) {
  return "'" + path + "': expected " + what + ", got " + found;
}

// Of a file that does not begin as it should: what it is instead.
std::string what_begins_with(std::string_view bytes) {
  if (bytes.starts_with("TNTIDX\0\0"sv)) {
    return "TNTIDX, the older format of fairseq and Megatron: preprocess the text again with --dataset-impl mmap";
  }
  if (const std::optional<Format> format = recognise(bytes)) return std::string(format->name);
  return "'" + base::printable(bytes.substr(0, kMagic.size())) + "'";
}

}  // namespace

TokenDtype dtype_for(int64_t vocab_size) {
  return vocab_size < 65500 ? TokenDtype::kU16 : TokenDtype::kI32;
}

int64_t item_size(TokenDtype dtype) {
  switch (dtype) {
    case TokenDtype::kU8:
    case TokenDtype::kI8:
      return 1;
    case TokenDtype::kI16:
    case TokenDtype::kU16:
      return 2;
    case TokenDtype::kI32:
      return 4;
    case TokenDtype::kI64:
      return 8;
  }
  return 0;  // no token type
}

std::vector<char> index_bytes(TokenDtype dtype, std::span<const int32_t> lengths) {
  std::vector<char> bytes(kMagic.begin(), kMagic.end());
  append_bytes(bytes, kVersion);
  append_bytes(bytes, static_cast<uint8_t>(dtype));
  append_bytes(bytes, uint64_t{lengths.size()});
  append_bytes(bytes, uint64_t{lengths.size() + 1});
  for (const int32_t length : lengths) append_bytes(bytes, length);
  int64_t offset = 0;
  for (const int32_t length : lengths) {
    append_bytes(bytes, offset);
    offset += length * item_size(dtype);
  }
  for (size_t i = 0; i <= lengths.size(); ++i) append_bytes(bytes, static_cast<int64_t>(i));
  return bytes;
}

TokenIndex::TokenIndex(std::span<const char> bytes, const std::string& path) : bytes_(bytes) {
  const std::string_view text(bytes.data(), bytes.size());
  if (text.substr(0, kMagic.size()) != kMagic.substr(0, text.size())) {
    throw UserError("'" + path + "' is no token index: expected it to begin with MMIDIDX, got " +
                    what_begins_with(text));
  }
  if (bytes.size() < kHeaderSize) {
    throw UserError("'" + path + "' is no token index: expected a header of " + std::to_string(kHeaderSize) +
                    " bytes, got " + std::to_string(bytes.size()) + " bytes");
  }
  if (const auto version = load<uint64_t>(bytes, kVersionAt); version != kVersion) {
    throw UserError(expected(path, "version 1", std::to_string(version)));
  }
  dtype_ = TokenDtype{load<uint8_t>(bytes, kDtypeAt)};
  if (item_size(dtype_) == 0) {
    throw UserError(expected(path, "a whole-number dtype code (1-5 or 8)", std::to_string(static_cast<int>(dtype_))));
  }
  const auto sequences = load<uint64_t>(bytes, kSequencesAt);
  const auto documents = load<uint64_t>(bytes, kDocumentsAt);
  if (sequences > kMaxEntries || documents > kMaxEntries ||
      bytes.size() != kHeaderSize + sequences * 12 + documents * 8) {
    throw UserError(expected(
        path,
        "the size of " + std::to_string(sequences) + " sequences and " + std::to_string(documents) + " document starts",
        std::to_string(bytes.size()) + " bytes"));
  }
  num_sequences_ = static_cast<int64_t>(sequences);
  num_documents_ = static_cast<int64_t>(documents);
  check_entries(path);
}

void TokenIndex::check_entries(const std::string& path) {
  const int64_t largest = std::numeric_limits<int64_t>::max() / 16;
  for (int64_t i = 0; i < num_sequences_; ++i) {
    const auto which = [i] { return " of sequence " + std::to_string(i); };
    if (length(i) < 0) throw UserError(expected(path, "a length of 0 or more", std::to_string(length(i)) + which()));
    if (byte_offset(i) != num_tokens_ * item_size(dtype_)) {
      throw UserError(expected(path, "byte offset " + std::to_string(num_tokens_ * item_size(dtype_)),
                               std::to_string(byte_offset(i)) + which()));
    }
    num_tokens_ += length(i);
    if (num_tokens_ > largest) throw UserError(expected(path, "fewer tokens", "a total that overflows"));
  }
  int64_t previous = 0;
  for (int64_t i = 0; i < num_documents_; ++i) {
    const int64_t start = document_start(i);
    const bool last = i + 1 == num_documents_;
    if (start < previous || start > num_sequences_ || (i == 0 && start != 0) || (last && start != num_sequences_)) {
      throw UserError(expected(path, "document starts that rise from 0 to " + std::to_string(num_sequences_),
                               std::to_string(start) + " at entry " + std::to_string(i)));
    }
    previous = start;
  }
}

void TokenIndex::check_bin_size(size_t size, const std::string& path) const {
  const int64_t wanted = num_tokens_ * item_size(dtype_);
  if (static_cast<int64_t>(size) != wanted) {
    throw UserError(expected(path, std::to_string(wanted) + " bytes, as its .idx says", std::to_string(size)));
  }
}

int64_t TokenIndex::length(int64_t sequence) const {
  return load<int32_t>(bytes_, kHeaderSize + static_cast<size_t>(sequence) * 4);
}

int64_t TokenIndex::byte_offset(int64_t sequence) const {
  return load<int64_t>(bytes_,
                       kHeaderSize + static_cast<size_t>(num_sequences_) * 4 + static_cast<size_t>(sequence) * 8);
}

int64_t TokenIndex::document_start(int64_t document) const {
  return load<int64_t>(bytes_,
                       kHeaderSize + static_cast<size_t>(num_sequences_) * 12 + static_cast<size_t>(document) * 8);
}

void TokenIndex::read(std::span<const char> bin, int64_t sequence, int64_t offset, std::span<int64_t> ids) const {
  if (ids.empty()) return;
  const char* from = bin.data() + byte_offset(sequence) + offset * item_size(dtype_);
  switch (dtype_) {
    case TokenDtype::kU8:
      return widen<uint8_t>(from, ids);
    case TokenDtype::kI8:
      return widen<int8_t>(from, ids);
    case TokenDtype::kI16:
      return widen<int16_t>(from, ids);
    case TokenDtype::kI32:
      return widen<int32_t>(from, ids);
    case TokenDtype::kI64:
      return widen<int64_t>(from, ids);
    case TokenDtype::kU16:
      return widen<uint16_t>(from, ids);
  }
}

}  // namespace longfold::data
