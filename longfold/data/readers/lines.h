// Lines of text in a stream. A line ends in LF, CRLF or a CR alone; the last one needs no end; a UTF-8 byte order mark
// before the first is dropped.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "longfold/data/readers/byte_stream.h"

namespace longfold::data {

class LineReader {
 public:
  explicit LineReader(std::unique_ptr<ByteStream> stream);
  // The next line, valid until the call after it; false at the end. UserError if the input is damaged or truncated, or
  // the line has more than `longest` bytes.
  [[nodiscard]] bool next(std::string_view& line, size_t longest);
  [[nodiscard]] int64_t number() const { return number_; }  // of that line, from 1
  // UserError "path:number: " and what is wrong there.
  [[noreturn]] void fail(const std::string& what) const { fail_at(number_, what); }
  [[noreturn]] void fail_at(int64_t number, const std::string& what) const;
  [[nodiscard]] const ByteStream& stream() const { return *stream_; }

 private:
  [[nodiscard]] bool fill();

  std::unique_ptr<ByteStream> stream_;
  std::vector<char> buffer_;
  size_t begin_ = 0;  // of the bytes in buffer_ that are not yet used
  size_t end_ = 0;
  std::string line_;
  int64_t number_ = 0;
  bool after_return_ = false;  // the line before ended in CR: an LF may still belong to it
};

}  // namespace longfold::data
