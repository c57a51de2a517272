// The page that `longfold report` writes: one file of HTML that fetches nothing.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "longfold/cli/chart.h"

namespace longfold::cli {

struct Page {
  std::string title;
  std::vector<std::pair<std::string, std::string>> facts;   // name and text, at the top
  std::vector<std::pair<std::string, std::string>> notes;   // the same, of what went wrong or is missing
  std::vector<Chart> charts;                                // those with points are shown
  std::vector<std::pair<std::string, std::string>> recipe;  // every option and its value
};

[[nodiscard]] std::string html(const Page& page);

// Text as it may stand between tags and in attributes.
[[nodiscard]] std::string escaped(const std::string& text);

}  // namespace longfold::cli
