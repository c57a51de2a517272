#include "longfold/data/readers/byte_stream.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "longfold/base/error.h"
#include "longfold/base/text.h"

namespace longfold::data {
namespace {

using base::RunError;
using base::UserError;

constexpr size_t kBufferSize = 1 << 16;
constexpr unsigned char kMagic[] = {0x1f, 0x8b};
constexpr int kGzipWindow = 15 + 16;  // the largest window; the 16 asks zlib for a gzip header and its checksum

// BGZF marks its blocks by a field "BC" of two bytes among the extra fields of the gzip header.
bool has_bgzf_mark(std::span<const Bytef> extra) {
  while (extra.size() >= 4) {
    const size_t length = extra[2] + size_t{256} * extra[3];
    if (extra[0] == 'B' && extra[1] == 'C' && length == 2) return true;
    if (extra.size() - 4 < length) return false;
    extra = extra.subspan(4 + length);
  }
  return false;
}

// As a shell reads it.
std::string quoted(std::string_view path) {
  std::string text = "'";
  for (const char c : path) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

}  // namespace

ByteStream::ByteStream(const std::string& path)
    : path_(path),
      name_(path == "-" ? "standard input" : path),
      shown_(path == "-" ? "standard input" : "'" + path + "'"),
      buffer_(kBufferSize) {
  if (path == "-") {
    file_ = STDIN_FILENO;
    return;
  }
  file_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file_ >= 0) return;
  const std::string reason = std::strerror(errno);
  if (path.find("://") == std::string::npos) throw UserError("cannot read " + shown_ + ": " + reason);
  throw UserError("cannot read " + shown_ + ": expected a file, got an address: type curl -fL " + quoted(path) +
                  " | longfold prepare - -o PREFIX");
}

ByteStream::~ByteStream() {
  if (kind_ == Kind::kGzip) ::inflateEnd(&zlib_);
  if (path_ != "-" && file_ >= 0) ::close(file_);
}

void ByteStream::fail(const std::string& what) const {
  throw UserError("cannot read " + shown_ + ": " + what);
}

std::string ByteStream::through(std::string_view filter) const {
  std::string line = path_ == "-" ? "... | " : "";
  if (compressed()) line += path_ == "-" ? "gzip -dc | " : "gzip -dc " + quoted(path_) + " | ";
  const size_t at = filter.find('%');
  line += std::string(filter.substr(0, at)) + (is_plain_file() ? quoted(path_) : "-");
  return line + std::string(filter.substr(at + 1)) + " | longfold prepare - -o PREFIX";
}

std::string_view ByteStream::peek(size_t count) {
  while (peeked_.size() < count) {
    const size_t size = peeked_.size();
    peeked_.resize(count);
    const size_t more = read_decoded(std::span(peeked_).subspan(size));
    peeked_.resize(size + more);
    if (more == 0) break;
  }
  return std::string_view(peeked_).substr(0, count);
}

size_t ByteStream::read(std::span<char> into) {
  if (peeked_used_ == peeked_.size()) return read_decoded(into);
  const size_t count = peeked_.copy(into.data(), into.size(), peeked_used_);
  peeked_used_ += count;
  return count;
}

size_t ByteStream::read_decoded(std::span<char> into) {
  if (kind_ == Kind::kUnknown) detect();
  if (kind_ == Kind::kPlain) {
    if (zlib_.avail_in == 0) return read_raw(into);
    const size_t count = std::min<size_t>(zlib_.avail_in, into.size());
    std::memcpy(into.data(), zlib_.next_in, count);
    zlib_.next_in += count;
    zlib_.avail_in -= static_cast<uInt>(count);
    return count;
  }
  zlib_.next_out = reinterpret_cast<Bytef*>(into.data());
  zlib_.avail_out = static_cast<uInt>(std::min<size_t>(into.size(), 1U << 30));
  const uInt room = zlib_.avail_out;
  while (zlib_.avail_out == room && (in_member_ || next_member())) {
    if (!fill()) fail("the compressed file is truncated");
    const int code = ::inflate(&zlib_, Z_NO_FLUSH);
    if (code == Z_MEM_ERROR) throw RunError("no memory to decompress " + shown_);
    if (code == Z_STREAM_END)
      end_member();
    else if (code != Z_OK && code != Z_BUF_ERROR)
      fail("the compressed data are damaged near byte " + base::format_count(bytes_in_ - zlib_.avail_in));
  }
  return room - zlib_.avail_out;
}

size_t ByteStream::read_raw(std::span<char> into) {
  ssize_t count = 0;
  do count = ::read(file_, into.data(), into.size());
  while (count < 0 && errno == EINTR);
  if (count < 0) fail(std::strerror(errno));
  bytes_in_ += count;
  return static_cast<size_t>(count);
}

bool ByteStream::fill() {
  if (zlib_.avail_in > 0) return true;
  if (at_end_) return false;
  const size_t count = read_raw(buffer_);
  at_end_ = count == 0;
  zlib_.next_in = reinterpret_cast<Bytef*>(buffer_.data());
  zlib_.avail_in = static_cast<uInt>(count);
  return count > 0;
}

void ByteStream::detect() {
  size_t count = 0;
  while (count < sizeof kMagic) {  // a pipe may bring one byte at a time
    const size_t more = read_raw(std::span(buffer_).subspan(count));
    if (more == 0) break;
    count += more;
  }
  zlib_.next_in = reinterpret_cast<Bytef*>(buffer_.data());
  zlib_.avail_in = static_cast<uInt>(count);
  if (count < sizeof kMagic || std::memcmp(buffer_.data(), kMagic, sizeof kMagic) != 0) {
    kind_ = Kind::kPlain;
    return;
  }
  if (::inflateInit2(&zlib_, kGzipWindow) != Z_OK) throw RunError("no memory to decompress " + shown_);
  kind_ = Kind::kGzip;
  begin_member();
}

void ByteStream::begin_member() {
  ::inflateReset(&zlib_);
  header_ = {};
  header_.extra = extra_.data();
  header_.extra_max = static_cast<uInt>(extra_.size());
  ::inflateGetHeader(&zlib_, &header_);
  in_member_ = true;
}

void ByteStream::end_member() {
  in_member_ = false;
  const bool has_extra = header_.extra != Z_NULL;  // zlib clears it where the header has no such field
  const size_t length = has_extra ? std::min<size_t>(header_.extra_len, extra_.size()) : 0;
  if (has_bgzf_mark({extra_.data(), length}))
    marker_due_ = zlib_.total_out > 0;
  else
    check_end_marker();
}

// To the next member, if there is one, over zeros.
bool ByteStream::next_member() {
  int64_t zeros = 0;
  while (fill() && *zlib_.next_in == 0) {
    ++zlib_.next_in;
    --zlib_.avail_in;
    ++zeros;
  }
  if (zlib_.avail_in == 0) {
    check_end_marker();
    return false;
  }
  if (*zlib_.next_in == kMagic[0]) {
    if (zlib_.avail_in == 1) {  // the byte after it is still to be read
      buffer_[0] = static_cast<char>(kMagic[0]);
      const size_t more = read_raw(std::span(buffer_).subspan(1));
      if (more == 0) fail("the compressed file is truncated: it ends within the header of a gzip member");
      zlib_.next_in = reinterpret_cast<Bytef*>(buffer_.data());
      zlib_.avail_in = static_cast<uInt>(more + 1);
    }
    if (zlib_.next_in[1] == kMagic[1]) {
      begin_member();
      return true;
    }
  }
  count_trailing(zeros);
  return false;
}

void ByteStream::count_trailing(int64_t count) {
  check_end_marker();
  while (fill()) {
    count += zlib_.avail_in;
    zlib_.avail_in = 0;
  }
  warning_ = shown_ + ": ignored " + base::format_count(count) + (count == 1 ? " byte" : " bytes") +
             " after the end of its gzip data, as gzip does";
}

void ByteStream::check_end_marker() const {
  if (!marker_due_) return;
  fail(
      "the compressed file is truncated, or was written without the end marker of BGZF: if you know that it is whole, "
      "type " +
      (path_ == "-" ? "... | gzip -dc" : "gzip -dc " + quoted(path_)) + " | longfold prepare - -o PREFIX");
}

}  // namespace longfold::data
