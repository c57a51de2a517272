// Words and numbers as people write them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace longfold::base {

// A number of bytes; text form "1536", "512MiB", "1.5GiB", "2GB".
struct Bytes {
  int64_t count = 0;
  friend bool operator==(const Bytes&, const Bytes&) = default;
};

// Nothing if `text` is no size.
[[nodiscard]] std::optional<Bytes> parse_bytes(std::string_view text);

// "1.50 GiB": three significant digits, binary units.
[[nodiscard]] std::string format_bytes(int64_t bytes);

// 48502 -> "48,502".
[[nodiscard]] std::string format_count(int64_t count);

// 3725.4 -> "1:02:05"; 65 -> "1:05".
[[nodiscard]] std::string format_duration(double seconds);

// The candidate with the smallest edit distance to `word`, or "" if none is near.
[[nodiscard]] std::string nearest(std::string_view word, std::span<const std::string> candidates);

// ", did you mean 'x'?" or, when nothing is near, " (one of: a, b, c)".
[[nodiscard]] std::string suggestion(std::string_view word, std::span<const std::string> candidates);

// Text from a file or a user, fit for a terminal: what would steer it (control characters, escape sequences, marks that
// turn the direction of writing) and bytes that are no UTF-8 come as \x1b. What is longer than `longest` bytes when
// shown so is cut: "chr1 of a very lo... (900,000 bytes)".
[[nodiscard]] std::string printable(std::string_view text, size_t longest = std::string_view::npos);

// How much of a name messages show.
inline constexpr size_t kShownName = 60;

[[nodiscard]] std::string join(std::span<const std::string> words, std::string_view separator);

}  // namespace longfold::base
