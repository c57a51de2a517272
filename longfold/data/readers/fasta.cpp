#include "longfold/data/readers/fasta.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "longfold/base/error.h"
#include "longfold/base/text.h"
#include "longfold/data/readers/formats.h"

namespace longfold::data {
namespace {

using base::UserError;
using namespace std::string_view_literals;

constexpr size_t kBufferSize = 1 << 18;
constexpr size_t kLongestHeader = 1 << 20;  // beyond this it is no FASTA file
constexpr auto kByteOrderMark = "\xef\xbb\xbf"sv;
constexpr std::string_view kOtherLineEnds[] = {"\v", "\f", "\xc2\x85", "\xe2\x80\xa8", "\xe2\x80\xa9"};
constexpr auto kWideHeader = ">\0"sv;  // two bytes a letter: UTF-16 without its mark

bool is_blank(char c) {
  return c == ' ' || c == '\t';
}

size_t length_without_trailing_blanks(std::string_view text) {
  size_t length = text.size();
  while (length > 0 && is_blank(text[length - 1])) --length;
  return length;
}

// The first CR or LF. In windows: a file has one of them in every line, and the other perhaps nowhere.
size_t find_line_end(std::string_view text) {
  constexpr size_t kWindow = 1024;
  for (size_t from = 0; from < text.size(); from += kWindow) {
    const std::string_view window = text.substr(from, kWindow);
    const size_t feed = window.find('\n');
    const size_t end = std::min(feed, window.substr(0, feed).find('\r'));
    if (end != std::string_view::npos) return from + end;
  }
  return std::string_view::npos;
}

}  // namespace

std::string show_letter(char letter) {
  if (letter > ' ' && letter < 127) return std::string("'") + letter + "'";
  constexpr std::string_view kHex = "0123456789abcdef";
  const auto byte = static_cast<unsigned char>(letter);
  return std::string("byte 0x") + kHex[byte >> 4] + kHex[byte & 15];
}

FastaReader::FastaReader(const std::string& path) : FastaReader(std::make_unique<ByteStream>(path)) {}

FastaReader::FastaReader(std::unique_ptr<ByteStream> stream) : stream_(std::move(stream)), buffer_(kBufferSize) {}

bool FastaReader::next(FastaEvent& event) {
  while (true) {
    if (column_ == 1) begin_line();
    if (begin_ == end_ && !fill()) {
      if (!in_record_) throw UserError(stream_->shown() + " is empty: expected FASTA records");
      return false;
    }
    const std::string_view bytes = rest();
    if (column_ == 1 && bytes.front() == '>') {
      read_header(event);
      return true;
    }
    if (column_ == 1 && in_record_) refuse_comment();
    const size_t line_end = find_line_end(bytes);
    const std::string_view piece = bytes.substr(0, line_end);
    size_t used = length_without_trailing_blanks(piece);
    if (line_end == std::string_view::npos && used == 0) {  // blanks: does their line go on?
      if (fill()) continue;
      if (!at_end_) used = piece.size();  // a buffer full of them is nothing to overlook
    }
    if (used > 0 && !in_record_) fail_as_no_fasta();
    event = {FastaEvent::Kind::kBases, piece.substr(0, used), line_, column_};
    if (line_end != std::string_view::npos) {
      use_line(line_end);
    } else {
      // Blanks behind the piece stay in the buffer, at the end of the file they are dropped.
      begin_ += used == 0 ? piece.size() : used;
      column_ += static_cast<int64_t>(used);
    }
    if (!event.text.empty()) return true;
  }
}

// Over the LF of a CRLF and byte order marks.
void FastaReader::begin_line() {
  if (after_return_ && have(1) && rest().front() == '\n') ++begin_;
  after_return_ = false;
  while (have(kByteOrderMark.size()) && rest().starts_with(kByteOrderMark)) begin_ += kByteOrderMark.size();
}

void FastaReader::use_line(size_t length) {
  begin_ += length;
  after_return_ = buffer_[begin_] == '\r';
  ++begin_;
  ++line_;
  column_ = 1;
}

void FastaReader::read_header(FastaEvent& event) {
  if (!in_record_ && have(kWideHeader.size()) && rest().starts_with(kWideHeader)) fail_as_no_fasta();
  const int64_t line = line_;
  header_.clear();
  size_t line_end = find_line_end(rest());
  while (line_end == std::string_view::npos) {
    header_ += rest();
    begin_ = end_;
    if (header_.size() > kLongestHeader) {
      throw UserError(stream_->shown() + " is not FASTA: the header at line " + std::to_string(line) +
                      " has more than " + std::to_string(kLongestHeader) + " characters");
    }
    if (!fill()) break;
    line_end = find_line_end(rest());
  }
  if (line_end != std::string_view::npos) {
    header_ += rest().substr(0, line_end);
    use_line(line_end);
  }
  refuse_other_line_ends(line);
  const std::string_view text = std::string_view(header_).substr(1);
  event = {FastaEvent::Kind::kRecord, text.substr(0, length_without_trailing_blanks(text)), line, 1};
  in_record_ = true;
}

// Behind one of them bases would become part of a name. In a line of bases they are no nucleotides.
void FastaReader::refuse_other_line_ends(int64_t line) const {
  for (const std::string_view end : kOtherLineEnds) {
    if (header_.find(end) == std::string::npos) continue;
    throw UserError(stream_->shown() + ": expected lines that end in LF, CRLF or CR, got another line end, " +
                    base::printable(end) + ", in the header at line " + std::to_string(line) + ": type " +
                    stream_->through(R"(LC_ALL=C sed -E 's/\v|\f|\xc2\x85|\xe2\x80[\xa8\xa9]/\n/g' %)"));
  }
}

void FastaReader::refuse_comment() const {
  const char first = rest().front();
  if (first != ';' && first != '#') return;
  throw UserError(stream_->shown() + ": expected FASTA without comments, got a line that begins with " +
                  show_letter(first) + ", line " + std::to_string(line_) + ": type " +
                  stream_->through(std::string("grep -v '^") + first + "' %"));
}

// At the first line that is not blank.
void FastaReader::fail_as_no_fasta() {
  (void)have(kFormatBytes);
  const std::string_view bytes = rest();
  const std::optional<Format> format = recognise(bytes.substr(std::min(bytes.find_first_not_of(" \t"), bytes.size())));
  if (!format) {
    refuse_comment();
    throw UserError(stream_->shown() + " is not FASTA: expected '>' at line " + std::to_string(line_) + ", got " +
                    show_letter(bytes.front()));
  }
  const std::string advice(format->advice);
  std::string way_out = advice;
  if (!format->filter.empty() && (!format->needs_file || stream_->is_plain_file())) {
    way_out = "type " + stream_->through(format->filter) + (advice.empty() ? "" : " (" + advice + ")");
  } else if (format->needs_file) {
    std::string filter(format->filter);
    filter.replace(filter.find('%'), 1, "FILE");
    way_out = "save it, decompressed, as FILE, then type " + filter + " | longfold prepare - -o PREFIX";
  }
  const std::string what(format->name);
  throw UserError(stream_->shown() + (stream_->compressed() ? " holds " + what + " inside gzip" : " is " + what) +
                  ", not FASTA: " + way_out);
}

bool FastaReader::have(size_t count) {
  while (rest().size() < count && fill()) continue;
  return rest().size() >= count;
}

bool FastaReader::fill() {
  if (at_end_) return false;
  std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
  if (end_ == buffer_.size()) return false;
  const size_t count = stream_->read(std::span(buffer_).subspan(end_));
  at_end_ = count == 0;
  end_ += count;
  return count > 0;
}

}  // namespace longfold::data
