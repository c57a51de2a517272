// FASTA in a stream: plain, gzip (also of several members) or BGZF, from a file or, as "-", from standard input. Memory
// does not grow with the file or its lines. Lines may end in LF or CRLF, be blank, or lack the last line end; blanks at
// the end of a line are dropped. What the letters mean is the consumer's business.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

struct BGZF;

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
  explicit FastaReader(const std::string& path);  // UserError if it cannot be opened
  // False at the end. UserError naming the file if it is no FASTA, empty, corrupt or truncated.
  [[nodiscard]] bool next(FastaEvent& event);

 private:
  struct Close {
    void operator()(BGZF* file) const;
  };

  [[nodiscard]] bool fill();  // more bytes behind those not yet used; false at the end of the file
  void read_header(FastaEvent& event);
  void check_end();
  [[nodiscard]] std::string read_failure() const;
  [[nodiscard]] std::string_view rest() const { return {buffer_.data() + begin_, end_ - begin_}; }

  std::string shown_;  // the path in quotes, or "standard input"
  std::unique_ptr<BGZF, Close> file_;
  std::vector<char> buffer_;
  std::string header_;
  size_t begin_ = 0;  // of the bytes in buffer_ that are not yet used
  size_t end_ = 0;
  int64_t line_ = 1;
  int64_t column_ = 1;
  bool at_end_ = false;
  bool in_record_ = false;
};

}  // namespace longfold::data
