#include "longfold/data/fasta.h"

#include <htslib/bgzf.h>
#include <htslib/hts_log.h>

#include <cerrno>
#include <cstring>

#include "longfold/base/error.h"

namespace longfold::data {
namespace {

using base::UserError;

constexpr size_t kBufferSize = 1 << 18;
constexpr size_t kLongestHeader = 1 << 20;  // beyond this it is no FASTA file

bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\r';
}

size_t length_without_trailing_blanks(std::string_view text) {
  size_t length = text.size();
  while (length > 0 && is_blank(text[length - 1])) --length;
  return length;
}

}  // namespace

std::string show_letter(char letter) {
  if (letter > ' ' && letter < 127) return std::string("'") + letter + "'";
  constexpr std::string_view kHex = "0123456789abcdef";
  const auto byte = static_cast<unsigned char>(letter);
  return std::string("byte 0x") + kHex[byte >> 4] + kHex[byte & 15];
}

void FastaReader::Close::operator()(BGZF* file) const {
  bgzf_close(file);
}

FastaReader::FastaReader(const std::string& path)
    : shown_(path == "-" ? "standard input" : "'" + path + "'"), buffer_(kBufferSize) {
  hts_set_log_level(HTS_LOG_OFF);  // it would print beside the error that we throw
  file_.reset(bgzf_open(path.c_str(), "r"));
  if (!file_) throw UserError("cannot read " + shown_ + ": " + std::strerror(errno));
}

bool FastaReader::next(FastaEvent& event) {
  while (true) {
    if (begin_ == end_ && !fill()) {
      if (!in_record_) throw UserError(shown_ + " is empty: expected FASTA records");
      return false;
    }
    const std::string_view bytes = rest();
    if (column_ == 1 && bytes.front() == '>') {
      read_header(event);
      return true;
    }
    const size_t line_end = bytes.find('\n');
    const std::string_view piece = bytes.substr(0, line_end);
    size_t used = length_without_trailing_blanks(piece);
    if (line_end == std::string_view::npos && used == 0) {  // blanks: does their line go on?
      if (fill()) continue;
      if (!at_end_) used = piece.size();  // a buffer full of them is nothing to overlook
    }
    event = {FastaEvent::Kind::kBases, piece.substr(0, used), line_, column_};
    if (line_end != std::string_view::npos) {
      begin_ += line_end + 1;
      ++line_;
      column_ = 1;
    } else {
      // Blanks behind the piece stay in the buffer, at the end of the file they are dropped.
      begin_ += used == 0 ? piece.size() : used;
      column_ += static_cast<int64_t>(used);
    }
    if (event.text.empty()) continue;
    if (!in_record_) {
      // A gzip file with less than its header is plain bytes to the library.
      if (event.line == 1 && event.column == 1 && event.text.starts_with("\x1f\x8b")) {
        throw UserError("cannot read " + shown_ + ": the compressed file is truncated");
      }
      throw UserError(shown_ + " is not FASTA: expected '>' at line " + std::to_string(event.line) + ", got " +
                      show_letter(event.text.front()));
    }
    return true;
  }
}

void FastaReader::read_header(FastaEvent& event) {
  header_.clear();
  size_t line_end = rest().find('\n');
  while (line_end == std::string_view::npos) {
    header_ += rest();
    begin_ = end_;
    if (header_.size() > kLongestHeader) {
      throw UserError(shown_ + " is not FASTA: the header at line " + std::to_string(line_) + " has more than " +
                      std::to_string(kLongestHeader) + " characters");
    }
    if (!fill()) break;
    line_end = rest().find('\n');
  }
  if (line_end != std::string_view::npos) {
    header_ += rest().substr(0, line_end);
    begin_ += line_end + 1;
  }
  const std::string_view text = std::string_view(header_).substr(1);
  event = {FastaEvent::Kind::kRecord, text.substr(0, length_without_trailing_blanks(text)), line_, 1};
  in_record_ = true;
  ++line_;
  column_ = 1;
}

bool FastaReader::fill() {
  if (at_end_) return false;
  std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
  if (end_ == buffer_.size()) return false;
  const ssize_t count = bgzf_read(file_.get(), buffer_.data() + end_, buffer_.size() - end_);
  if (count < 0) throw UserError("cannot read " + shown_ + ": " + read_failure());
  if (count == 0) {
    check_end();
    at_end_ = true;
    return false;
  }
  end_ += static_cast<size_t>(count);
  return true;
}

// The library tells a cut file from a damaged one by its error bits only.
std::string FastaReader::read_failure() const {
  if (file_->errcode & BGZF_ERR_IO) {
    return bgzf_compression(file_.get()) == 0 ? std::strerror(errno) : "the compressed file is truncated";
  }
  return "the compressed data are damaged";
}

// BGZF closes with an empty block, so that a file cut between two blocks can be told from a whole one.
void FastaReader::check_end() {
  constexpr int kBgzf = 2;
  constexpr int kAbsent = 0;
  if (bgzf_compression(file_.get()) == kBgzf && bgzf_check_EOF(file_.get()) == kAbsent) {
    throw UserError("cannot read " + shown_ + ": the compressed file is truncated (its BGZF end marker is missing)");
  }
}

}  // namespace longfold::data
