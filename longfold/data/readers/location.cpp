#include "longfold/data/readers/location.h"

#include <algorithm>
#include <cctype>
#include <iterator>
#include <optional>
#include <utility>

#include "longfold/base/text.h"
#include "longfold/data/readers/nucleotides.h"

namespace longfold::data {
namespace {

constexpr int kDeepest = 32;        // parentheses within each other, far beyond what is found
constexpr size_t kMostDigits = 15;  // of a position

// location := complement(location) | join(location, ...) | order(location, ...) | [record:] place
// place    := position | position..position | position^position
// position := [< or >] digits | (digits.digits)
class Parser {
 public:
  Parser(std::string_view text, const std::vector<std::string>& own_names, Location& result)
      : text_(text), own_names_(own_names), result_(result) {}

  void run() {
    result_.parts = expression(0);
    if (at_ != text_.size()) fail();
  }

 private:
  std::vector<Part> expression(int depth) {
    if (depth > kDeepest) return fail();
    if (take("complement(")) {
      std::vector<Part> parts = expression(depth + 1);
      if (!take(")")) return fail();
      std::ranges::reverse(parts);
      for (Part& part : parts) part.reverse = !part.reverse;
      return parts;
    }
    if (take("join(")) return list(depth);
    if (take("order(")) {
      note("order() does not say that its parts are joined");
      return list(depth);
    }
    return place();
  }

  std::vector<Part> list(int depth) {
    std::vector<Part> parts;
    do {
      const std::vector<Part> more = expression(depth + 1);
      parts.insert(parts.end(), more.begin(), more.end());
    } while (result_.wrong != kUnreadable && take(","));
    if (!take(")")) return fail();
    return parts;
  }

  std::vector<Part> place() {
    const size_t colon = text_.find_first_of(":,()", at_);
    if (colon != std::string_view::npos && text_[colon] == ':') {
      const std::string_view record = text_.substr(at_, colon - at_);
      if (record.empty()) return fail();
      result_.remote |= std::ranges::find(own_names_, record) == own_names_.end();
      at_ = colon + 1;
    }
    const std::optional<int64_t> first = position();
    if (!first) return fail();
    if (take("^")) {
      if (!position()) return fail();
      note("a place between two bases");
      return {};
    }
    if (!take("..")) return {{*first - 1, *first, false}};
    const std::optional<int64_t> last = position();
    if (!last) return fail();
    return {{*first - 1, *last, false}};
  }

  std::optional<int64_t> position() {
    if (take("<") || take(">")) result_.partial = true;
    const bool bounds = take("(");
    const std::optional<int64_t> found = number();
    const bool has_second = bounds || (text_.substr(at_, 1) == "." && text_.substr(at_, 2) != "..");
    if (!has_second) return found;
    result_.partial = true;  // one of the bases between two bounds
    if (!take(".") || !number() || (bounds && !take(")"))) return std::nullopt;
    return found;
  }

  std::optional<int64_t> number() {
    int64_t value = 0;
    size_t digits = 0;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_, ++digits) {
      if (digits < kMostDigits) value = value * 10 + (text_[at_] - '0');
    }
    return digits == 0 || digits > kMostDigits || value == 0 ? std::nullopt : std::optional(value);
  }

  bool take(std::string_view word) {
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }
  void note(const char* why) {
    if (result_.wrong.empty()) result_.wrong = why;
  }
  std::vector<Part> fail() {
    result_.wrong = kUnreadable;
    return {};
  }

  static constexpr const char* kUnreadable = "its location cannot be read";

  std::string_view text_;
  const std::vector<std::string>& own_names_;
  Location& result_;
  size_t at_ = 0;
};

std::string part_text(const Part& part) {
  const std::string first = std::to_string(part.begin + 1);
  return part.end == part.begin + 1 ? first : first + ".." + std::to_string(part.end);
}

std::string joined(const std::vector<Part>& parts, bool with_strands) {
  std::vector<std::string> texts;
  for (const Part& part : parts) {
    texts.push_back(with_strands && part.reverse ? "complement(" + part_text(part) + ")" : part_text(part));
  }
  return texts.size() == 1 ? texts[0] : "join(" + base::join(texts, ",") + ")";
}

}  // namespace

Location parse_location(std::string_view text, const std::vector<std::string>& own_names) {
  Location location;
  std::ranges::copy_if(text, std::back_inserter(location.text),
                       [](unsigned char letter) { return std::isspace(letter) == 0; });
  Parser(location.text, own_names, location).run();
  return location;
}

std::string location_text(const std::vector<Part>& parts) {
  if (parts.empty() || !std::ranges::all_of(parts, &Part::reverse)) return joined(parts, true);
  return "complement(" + joined({parts.rbegin(), parts.rend()}, false) + ")";
}

bool bases_at(const std::vector<Part>& parts, std::string_view record, bool circular, std::string& bases,
              std::string& wrong) {
  const auto length = static_cast<int64_t>(record.size());
  bases.clear();
  for (const Part& part : parts) {
    int64_t end = part.end;
    if (circular && end <= part.begin) end += length;
    const bool within = part.begin >= 0 && part.begin < length && end > part.begin && end - part.begin <= length &&
                        (circular || end <= length);
    if (!within) {
      wrong = part_text(part) + " is not within its " + (circular ? "circular" : "linear") + " record of " +
              std::to_string(length) + " bases";
      return false;
    }
    std::string piece(record.substr(static_cast<size_t>(part.begin), static_cast<size_t>(end - part.begin)));
    if (end > length) piece += record.substr(0, static_cast<size_t>(end - length));
    bases += part.reverse ? reverse_complement(piece) : piece;
    if (bases.size() > 2 * record.size()) {
      wrong = "its parts have more than twice the bases of its record";
      return false;
    }
  }
  return true;
}

}  // namespace longfold::data
