// What people give where FASTA is expected: known by its first bytes, with what to do about it.
#pragma once

#include <optional>
#include <string_view>

namespace longfold::data {

struct Format {
  std::string_view name;    // "xz data", "a web page (HTML)"
  std::string_view filter;  // a command that makes FASTA of it, % standing for the file; empty if there is none
  std::string_view advice;  // a remark on the filter, or what to do without one
  bool needs_file = false;  // the filter cannot read from a pipe
};

// How many of the first bytes are enough to know any of them.
inline constexpr size_t kFormatBytes = 4096;

[[nodiscard]] std::optional<Format> recognise(std::string_view first_bytes);

}  // namespace longfold::data
