// FNV-1a, 64 bits: tells versions of a table or a file apart. Not cryptographic.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>

namespace longfold::data {

class Fnv1a64 {
 public:
  void update(const void* bytes, size_t count) {
    for (size_t i = 0; i < count; ++i) value_ = (value_ ^ static_cast<const unsigned char*>(bytes)[i]) * 0x100000001b3u;
  }
  [[nodiscard]] std::string text() const {  // "fnv1a64:" and 16 hex digits
    char digits[17];
    std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(value_));
    return std::string("fnv1a64:") + digits;
  }

 private:
  uint64_t value_ = 0xcbf29ce484222325u;
};

}  // namespace longfold::data
