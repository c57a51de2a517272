// Where in a file or an arena things of given sizes lie: the first gap that is large enough.
#pragma once

#include <cstdint>
#include <iterator>
#include <map>

namespace longfold::techniques {

class Places {
 public:
  // The offset of a new one.
  int64_t take(int64_t bytes) {
    int64_t offset = 0;
    for (const auto& [begin, size] : taken_) {
      if (begin - offset >= bytes) break;
      offset = begin + size;
    }
    taken_.emplace(offset, bytes);
    end_ = end_ < offset + bytes ? offset + bytes : end_;
    return offset;
  }
  void free(int64_t offset) { taken_.erase(offset); }

  [[nodiscard]] int64_t end() const { return end_; }  // of all that there ever were

 private:
  std::map<int64_t, int64_t> taken_;  // bytes by offset
  int64_t end_ = 0;
};

}  // namespace longfold::techniques
