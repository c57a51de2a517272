// FASTA in a stream: memory does not grow with the input or its lines. A line ends in LF, CRLF or a CR alone (old Mac
// exports), the last one needs no end; lines may be blank, and blanks at the end of a line are dropped, as is a UTF-8
// byte order mark. What the letters mean is the consumer's business.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "longfold/data/readers/byte_stream.h"

namespace longfold::data {

struct FastaEvent {
  enum class Kind {
    kRecord,  // `text` is the header line without '>'
    kBases,   // `text` is a line of the record, or a piece of a long one
  };
  Kind kind = Kind::kRecord;
  std::string_view text;  // valid until the next call of next()
  int64_t line = 0;       // both count from 1
  int64_t column = 0;
};

// A letter as messages show it: 'x', or "byte 0x0d" for one that does not print.
[[nodiscard]] std::string show_letter(char letter);

class FastaReader {
 public:
  explicit FastaReader(const std::string& path);  // UserError if it cannot be opened; "-" is standard input
  explicit FastaReader(std::unique_ptr<ByteStream> stream);
  // False at the end. UserError naming the input if it is no FASTA (and what it is instead, where that is known),
  // empty, damaged or truncated.
  [[nodiscard]] bool next(FastaEvent& event);
  // What was odd and was passed over, once next() was false; else empty.
  [[nodiscard]] const std::string& warning() const { return stream_->warning(); }

 private:
  [[nodiscard]] bool fill();              // more bytes behind those not yet used; false at the end of the input
  [[nodiscard]] bool have(size_t count);  // so many unused bytes, where the input has them
  void begin_line();
  void use_line(size_t length);  // with its end
  void read_header(FastaEvent& event);
  void refuse_other_line_ends(int64_t line) const;
  void refuse_comment() const;
  [[noreturn]] void fail_as_no_fasta();
  [[nodiscard]] std::string_view rest() const { return {buffer_.data() + begin_, end_ - begin_}; }

  std::unique_ptr<ByteStream> stream_;
  std::vector<char> buffer_;
  std::string header_;
  size_t begin_ = 0;  // of the bytes in buffer_ that are not yet used
  size_t end_ = 0;
  int64_t line_ = 1;
  int64_t column_ = 1;
  bool after_return_ = false;  // a line ended in CR: an LF may still belong to it
  bool at_end_ = false;
  bool in_record_ = false;
};

}  // namespace longfold::data
