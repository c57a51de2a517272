// Where a feature lies in its record, as GenBank writes it: 5, 5..9, complement(...), join(...), and nested.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace longfold::data {

// Bases [begin, end) of the record, counted from 0; of the other strand if `reverse`. On a circular record `end` may be
// beyond its length, or, as some write it, not after `begin`: both mean a part over the origin.
struct Part {
  int64_t begin = 0;
  int64_t end = 0;
  bool reverse = false;
  friend bool operator==(const Part&, const Part&) = default;
};

struct Location {
  std::vector<Part> parts;  // in the order in which they are read
  bool partial = false;     // an end beyond what the record has, or of which only bounds are known
  bool remote = false;      // a part lies in another record
  std::string wrong;        // why it is no sequence of bases, if so: "order() does not say that its parts are joined"
  std::string text;         // in GenBank's words
};

// `own_names`: what a part may call the record that the feature is in (J00194.1:100..202).
[[nodiscard]] Location parse_location(std::string_view text, const std::vector<std::string>& own_names);
[[nodiscard]] std::string location_text(const std::vector<Part>& parts);

// The bases of the parts, one after the other. False, with the reason in `wrong`, if a part is not within the record.
[[nodiscard]] bool bases_at(const std::vector<Part>& parts, std::string_view record, bool circular, std::string& bases,
                            std::string& wrong);

}  // namespace longfold::data
