// A line chart as SVG, to stand within a page of HTML.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace longfold::cli {

struct Line {
  std::string name;
  int colour = 0;  // class "line0", "line1", ... of the page's style
  std::vector<std::pair<double, double>> points;
};

struct Chart {
  std::string title, unit;
  std::vector<Line> lines;
  bool from_zero = false;  // else the axis spans the values
};

// Of more points than can be told apart the least and the greatest of each stretch are drawn. Values that are not
// finite leave a gap. "" if there is no point at all.
[[nodiscard]] std::string svg(const Chart& chart);

// "0.00031", "12,345", "1.2e+09": as many digits as tell values apart.
[[nodiscard]] std::string tick_text(double value);

// Ends of an axis and the distance of its ticks: 1, 2 or 5 times a power of ten, about five of them.
struct Axis {
  double low = 0, high = 1, step = 1;
};
[[nodiscard]] Axis axis_over(double low, double high);

}  // namespace longfold::cli
