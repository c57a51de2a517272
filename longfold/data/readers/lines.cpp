#include "longfold/data/readers/lines.h"

#include <utility>

#include "longfold/base/error.h"
#include "longfold/base/text.h"

namespace longfold::data {
namespace {

constexpr size_t kBufferSize = 1 << 18;
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

}  // namespace

LineReader::LineReader(std::unique_ptr<ByteStream> stream) : stream_(std::move(stream)), buffer_(kBufferSize) {}

bool LineReader::next(std::string_view& line, size_t longest) {
  line_.clear();
  bool any = false;
  while (true) {
    if (begin_ == end_ && !fill()) {
      if (!any) return false;
      break;
    }
    if (std::exchange(after_return_, false) && buffer_[begin_] == '\n') {
      ++begin_;
      continue;
    }
    const std::string_view rest(buffer_.data() + begin_, end_ - begin_);
    const size_t length = rest.find_first_of("\r\n");
    line_ += rest.substr(0, length);
    any = true;
    if (line_.size() > longest) {
      fail_at(number_ + 1, "expected a line of at most " + base::format_count(static_cast<int64_t>(longest)) +
                               " bytes, got a longer one");
    }
    if (length == std::string_view::npos) {
      begin_ = end_;
      continue;
    }
    after_return_ = rest[length] == '\r';
    begin_ += length + 1;
    break;
  }
  if (++number_ == 1 && line_.starts_with(kByteOrderMark)) line_.erase(0, kByteOrderMark.size());
  line = line_;
  return true;
}

void LineReader::fail_at(int64_t number, const std::string& what) const {
  throw base::UserError(stream_->name() + ":" + std::to_string(number) + ": " + what);
}

bool LineReader::fill() {
  begin_ = 0;
  end_ = stream_->read(buffer_);
  return end_ > 0;
}

}  // namespace longfold::data
