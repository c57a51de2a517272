// What a kernel did wrong, in one line: who, what, where in the source, and what it collides with.
#pragma once

#include <source_location>
#include <stdexcept>
#include <string>

namespace longfold::simt {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

inline constexpr int kLanes = 32;
using Here = std::source_location;

[[nodiscard]] inline std::string place(const Here& here) {
  const std::string file = here.file_name();
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(here.line());
}

[[nodiscard]] inline bool same_place(const Here& a, const Here& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         (a.file_name() == b.file_name() || std::string(a.file_name()) == b.file_name());
}

[[nodiscard]] inline std::string thread_name(int thread) {
  return "warp " + std::to_string(thread / kLanes) + " lane " + std::to_string(thread % kLanes);
}

}  // namespace longfold::simt
