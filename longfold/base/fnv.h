// FNV-1a, 64 bits: tells versions of a table or a file apart. Not cryptographic.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace longfold::base {

class Fnv1a64 {
 public:
  static constexpr uint64_t kStart = 0xcbf29ce484222325u;

  explicit Fnv1a64(uint64_t start = kStart) : value_(start) {}
  void update(const void* bytes, size_t count) {
    for (size_t i = 0; i < count; ++i) value_ = (value_ ^ static_cast<const unsigned char*>(bytes)[i]) * 0x100000001b3u;
  }
  void update(std::string_view text) { update(text.data(), text.size()); }
  [[nodiscard]] uint64_t value() const { return value_; }
  [[nodiscard]] std::string text() const {  // "fnv1a64:" and 16 hex digits
    char digits[17];
    std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(value_));
    return std::string("fnv1a64:") + digits;
  }

 private:
  uint64_t value_;
};

}  // namespace longfold::base
