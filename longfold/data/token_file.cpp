#include "longfold/data/token_file.h"

#include <ATen/ops/empty.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "longfold/base/error.h"
#include "longfold/base/text.h"
#include "longfold/data/sidecar.h"
#include "longfold/data/token_prefix.h"

namespace longfold::data {
namespace {

using base::UserError;

static_assert(std::endian::native == std::endian::little, "the format is little endian and is mapped, not parsed");

// A file in memory, read-only.
class Mapping {
 public:
  explicit Mapping(const std::string& path) {
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) throw UserError("cannot read '" + path + "': " + std::strerror(errno));
    struct stat status{};
    const bool ok = ::fstat(file, &status) == 0 && S_ISREG(status.st_mode);
    size_ = ok ? static_cast<size_t>(status.st_size) : 0;
    void* mapped = size_ > 0 ? ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file, 0) : nullptr;
    ::close(file);
    if (!ok) throw UserError("cannot read '" + path + "': not a regular file");
    if (mapped == MAP_FAILED) throw UserError("cannot read '" + path + "': " + std::strerror(errno));
    data_ = static_cast<const char*>(mapped);
  }
  ~Mapping() {
    if (data_ != nullptr) ::munmap(const_cast<char*>(data_), size_);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  [[nodiscard]] std::span<const char> bytes() const { return {data_, size_}; }

 private:
  const char* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace

TokenFileWriter::TokenFileWriter(std::string prefix, const Tokenizer& tokenizer, bool with_mask)
    : prefix_(std::move(prefix)),
      tokenizer_(tokenizer),
      dtype_(dtype_for(tokenizer.vocab_size())),
      bin_(prefix_ + ".bin"),
      idx_(prefix_ + ".idx"),
      json_(prefix_ + ".json") {
  if (with_mask) mask_.emplace(prefix_ + ".mask");
}

void TokenFileWriter::append(std::span<const int32_t> ids) {
  encoded_.clear();
  encode(ids, encoded_);
  append_encoded(encoded_);
}

void TokenFileWriter::encode(std::span<const int32_t> ids, std::vector<char>& bytes) const {
  if (dtype_ == TokenDtype::kU16) {
    for (const int32_t id : ids) append_bytes(bytes, static_cast<uint16_t>(id));
  } else {
    for (const int32_t id : ids) append_bytes(bytes, id);
  }
}

void TokenFileWriter::append_encoded(std::span<const char> bytes) {
  bin_.write(bytes.data(), bytes.size());
  hash_.update(bytes.data(), bytes.size());
  length_ += std::ssize(bytes) / item_size(dtype_);
}

void TokenFileWriter::append_mask(const std::vector<bool>& masked) {
  std::string bytes;
  for (const bool one : masked) {
    mask_byte_ |= unsigned{one} << (mask_bits_ % 8);
    if (++mask_bits_ % 8 != 0) continue;
    bytes += static_cast<char>(mask_byte_);
    mask_byte_ = 0;
  }
  mask_->write(bytes);
  mask_hash_.update(bytes);
}

void TokenFileWriter::end_sequence(SequenceInfo info) {
  if (length_ > std::numeric_limits<int32_t>::max()) {
    throw UserError("record '" + base::printable(info.name, base::kShownName) +
                    "': expected at most 2147483647 tokens (the .idx format holds no more), got " +
                    std::to_string(length_));
  }
  lengths_.push_back(static_cast<int32_t>(length_));
  sequences_.push_back(std::move(info));
  length_ = 0;
}

void TokenFileWriter::commit(const TokenFileInfo& info) {
  const std::pair<TokenFileWriter*, const TokenFileInfo*> set{this, &info};
  commit_all({&set, 1});
}

void TokenFileWriter::commit_all(std::span<const std::pair<TokenFileWriter*, const TokenFileInfo*>> sets) {
  for (const auto& [writer, info] : sets) writer->stage(*info);
  for (const auto& [writer, info] : sets) base::remove_file(writer->prefix_ + ".json");
  for (const auto& [writer, info] : sets) writer->publish();
}

void TokenFileWriter::stage(const TokenFileInfo& info) {
  const std::vector<char> index = index_bytes(dtype_, lengths_);
  idx_.write(index.data(), index.size());
  if (mask_ && mask_bits_ % 8 != 0) append_mask(std::vector<bool>(static_cast<size_t>(8 - mask_bits_ % 8)));
  if (mask_) mask_->flush();
  json_.write(sidecar_text(tokenizer_, {info, sequences_, hash_.text(), mask_ ? mask_hash_.text() : ""}));
  for (base::AtomicFile* file : {&bin_, &idx_, &json_}) file->flush();
}

void TokenFileWriter::publish() {
  if (mask_) mask_->commit();
  for (base::AtomicFile* file : {&bin_, &idx_, &json_}) file->commit();
}

struct TokenFile::State {
  State(const std::string& prefix_in, const std::string& tokenizer_in)
      : prefix(checked_prefix(prefix_in)),
        idx(prefix + ".idx"),
        bin(prefix + ".bin"),
        tokenizer("", {"[UNK]", "[PAD]"}) {
    index = TokenIndex(idx.bytes(), prefix + ".idx");
    index.check_bin_size(bin.bytes().size(), prefix + ".bin");
    read_sidecar(prefix + ".json", tokenizer_in);
  }

  void read_sidecar(const std::string& path, const std::string& wanted);
  [[nodiscard]] std::string hash_of_bin() const;

  std::string prefix;
  Mapping idx;
  Mapping bin;
  TokenIndex index;
  Tokenizer tokenizer;
  Sidecar says;
  std::optional<Mapping> mask;
};

std::string TokenFile::State::hash_of_bin() const {
  base::Fnv1a64 hash;
  hash.update(bin.bytes().data(), bin.bytes().size());
  return hash.text();
}

void TokenFile::State::read_sidecar(const std::string& path, const std::string& wanted) {
  const bool named = !wanted.empty() && !sidecar_exists(path);
  if (named) tokenizer = make_tokenizer(wanted);
  if (!named) check_sidecar_exists(path);
  const bool pair_alone = named || data::read_sidecar(path, tokenizer, says);
  if (!named && !wanted.empty() && make_tokenizer(wanted).hash() != tokenizer.hash()) {
    throw UserError("'" + path + "' says tokenizer " + base::printable(tokenizer.name(), base::kShownName) +
                    ", but --tokenizer (data.tokenizer) is " + wanted);
  }
  if (pair_alone) {
    says.info.counts.tokens = index.num_tokens();
    says.sequences.resize(static_cast<size_t>(index.num_sequences()));
    says.content_hash = hash_of_bin();
  }
  if (std::ssize(says.sequences) != index.num_sequences() || says.info.counts.tokens != index.num_tokens()) {
    throw UserError("'" + path + "': expected " + std::to_string(index.num_sequences()) + " sequences and " +
                    std::to_string(index.num_tokens()) + " tokens as in the .idx beside it, got " +
                    std::to_string(says.sequences.size()) + " and " + std::to_string(says.info.counts.tokens));
  }
  if (says.mask_hash.empty()) return;
  mask.emplace(prefix + ".mask");
  const int64_t num_bytes = (index.num_tokens() + 7) / 8;
  if (std::ssize(mask->bytes()) != num_bytes) {
    throw UserError("'" + prefix + ".mask': expected " + std::to_string(num_bytes) +
                    " bytes, a bit for each token, got " + std::to_string(mask->bytes().size()));
  }
}

TokenFile::TokenFile(const std::string& prefix, const std::string& tokenizer)
    : state_(std::make_unique<State>(prefix, tokenizer)) {}
TokenFile::~TokenFile() = default;
TokenFile::TokenFile(TokenFile&&) noexcept = default;
TokenFile& TokenFile::operator=(TokenFile&&) noexcept = default;

const std::string& TokenFile::prefix() const {
  return state_->prefix;
}
const Tokenizer& TokenFile::tokenizer() const {
  return state_->tokenizer;
}
const TokenFileInfo& TokenFile::info() const {
  return state_->says.info;
}
const std::string& TokenFile::content_hash() const {
  return state_->says.content_hash;
}
bool TokenFile::has_mask() const {
  return state_->mask.has_value();
}

void TokenFile::check_content() const {
  if (has_mask()) {
    base::Fnv1a64 hash;
    hash.update(state_->mask->bytes().data(), state_->mask->bytes().size());
    if (hash.text() != state_->says.mask_hash) {
      throw UserError("'" + state_->prefix + ".mask': expected content hash " +
                      base::printable(state_->says.mask_hash, base::kShownName) + " as in the .json beside it, got " +
                      hash.text() + " (the file was changed or is damaged)");
    }
  }
  const std::string found = state_->hash_of_bin();
  if (found == content_hash()) return;
  throw UserError("'" + state_->prefix + ".bin': expected content hash " +
                  base::printable(content_hash(), base::kShownName) + " as in the .json beside it, got " + found +
                  " (the file was changed or is damaged)");
}

int64_t TokenFile::num_sequences() const {
  return state_->index.num_sequences();
}
int64_t TokenFile::num_tokens() const {
  return state_->index.num_tokens();
}

int64_t TokenFile::length(int64_t sequence) const {
  if (sequence < 0 || sequence >= num_sequences()) {
    throw UserError("'" + state_->prefix + "': expected a sequence below " + std::to_string(num_sequences()) +
                    ", got " + std::to_string(sequence));
  }
  return state_->index.length(sequence);
}

int64_t TokenFile::longest() const {
  int64_t longest = 0;
  for (int64_t i = 0; i < num_sequences(); ++i) longest = std::max(longest, length(i));
  return longest;
}

const SequenceInfo& TokenFile::sequence(int64_t sequence) const {
  (void)length(sequence);  // checks the index
  return state_->says.sequences[static_cast<size_t>(sequence)];
}

at::Tensor TokenFile::tokens(int64_t sequence, int64_t offset, int64_t count) const {
  const int64_t total = length(sequence);
  if (offset < 0 || count < 0 || offset > total || count > total - offset) {
    throw UserError("'" + state_->prefix + "': sequence " + std::to_string(sequence) + " has " + std::to_string(total) +
                    " tokens, got offset " + std::to_string(offset) + " and count " + std::to_string(count));
  }
  at::Tensor tokens = at::empty({count}, at::kLong);
  const std::span<int64_t> ids(tokens.mutable_data_ptr<int64_t>(), static_cast<size_t>(count));
  state_->index.read(state_->bin.bytes(), sequence, offset, ids);
  const int64_t vocab_size = state_->tokenizer.vocab_size();
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab_size) {
      throw UserError("'" + state_->prefix + ".bin': expected ids below " + std::to_string(vocab_size) + ", got " +
                      std::to_string(ids[i]) + " at token " + std::to_string(offset + static_cast<int64_t>(i)) +
                      " of sequence " + std::to_string(sequence));
    }
  }
  return tokens;
}

std::vector<bool> TokenFile::masked(int64_t sequence, int64_t offset, int64_t count) const {
  const int64_t total = length(sequence);
  if (!has_mask() || offset < 0 || count < 0 || offset > total || count > total - offset) {
    throw UserError("'" + state_->prefix + "': no soft mask of " + std::to_string(count) + " tokens from " +
                    std::to_string(offset) + " of sequence " + std::to_string(sequence));
  }
  const std::span<const char> bits = state_->mask->bytes();
  const int64_t first = state_->index.first_token(sequence) + offset;
  std::vector<bool> masked(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    const int64_t bit = first + i;
    masked[static_cast<size_t>(i)] =
        ((static_cast<unsigned char>(bits[static_cast<size_t>(bit / 8)]) >> (bit % 8)) & 1) != 0;
  }
  return masked;
}

}  // namespace longfold::data
