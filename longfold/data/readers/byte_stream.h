// The bytes of an input, decompressed where they are gzip: a file or, as "-", standard input, under the same rules.
//
//   members      read one after the other, as gzip does; zeros between and after them (tape padding) are skipped
//   other bytes  after the last member: ignored as gzip does, with a warning that counts them
//   BGZF         gzip in blocks, closed by an empty one. Without that the input may have been cut between two blocks,
//                so it is refused, also where a member follows that is no block
//
// Memory does not grow with the input. What the bytes mean is the reader's business.
#pragma once

#include <zlib.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace longfold::data {

class ByteStream {
 public:
  explicit ByteStream(const std::string& path);  // UserError if it cannot be opened
  ~ByteStream();
  ByteStream(const ByteStream&) = delete;
  ByteStream& operator=(const ByteStream&) = delete;

  // Fills some of `into`, which is not empty; 0 at the end. UserError if the input is damaged or truncated.
  [[nodiscard]] size_t read(std::span<char> into);

  // The next bytes, at most `count` and fewer at the end only, without using them up. Before the first read().
  [[nodiscard]] std::string_view peek(size_t count);

  // "path", or "standard input": what stands before a line's number in messages.
  [[nodiscard]] const std::string& name() const { return name_; }
  // The input as messages name it: the path in quotes, or "standard input".
  [[nodiscard]] const std::string& shown() const { return shown_; }
  // A command line that brings the input through `filter`, in which % stands for the file, into longfold prepare.
  [[nodiscard]] std::string through(std::string_view filter) const;
  [[nodiscard]] bool compressed() const { return kind_ == Kind::kGzip; }
  [[nodiscard]] bool is_plain_file() const { return path_ != "-" && kind_ == Kind::kPlain; }
  // What was odd and was passed over, once the end is reached; else empty.
  [[nodiscard]] const std::string& warning() const { return warning_; }

 private:
  enum class Kind { kUnknown, kPlain, kGzip };

  [[nodiscard]] size_t read_decoded(std::span<char> into);
  [[nodiscard]] size_t read_raw(std::span<char> into);
  [[nodiscard]] bool fill();  // input for zlib, where there is none; false at the end
  void detect();
  [[nodiscard]] bool next_member();
  void begin_member();
  void end_member();
  void check_end_marker() const;
  void count_trailing(int64_t count);
  [[noreturn]] void fail(const std::string& what) const;

  std::string path_;
  std::string name_;
  std::string shown_;
  std::string peeked_;
  size_t peeked_used_ = 0;
  int file_ = -1;
  Kind kind_ = Kind::kUnknown;
  bool in_member_ = false;
  bool marker_due_ = false;  // blocks of BGZF came and no empty one after them
  bool at_end_ = false;
  z_stream zlib_{};
  gz_header header_{};
  std::array<Bytef, 256> extra_{};  // the header's extra field, in which BGZF has its mark
  int64_t bytes_in_ = 0;            // of the input, as read so far
  std::vector<char> buffer_;        // input that zlib has not yet used
  std::string warning_;
};

}  // namespace longfold::data
