#include "longfold/cli/chart.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>

#include "longfold/base/text.h"

namespace longfold::cli {
namespace {

constexpr double kWidth = 620, kHeight = 240;
constexpr double kLeft = 84, kRight = 30, kTop = 12, kBottom = 32;
constexpr size_t kStretches = 300;  // of two points each

using Points = std::vector<std::pair<double, double>>;

std::string number(double value) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1f", value);
  return text.data();
}

Points finite(const Points& points) {
  Points kept;
  for (const auto& point : points) {
    if (std::isfinite(point.second)) kept.push_back(point);
  }
  return kept;
}

Points thinned(const Points& points) {
  if (points.size() <= 2 * kStretches) return points;
  Points kept;
  for (size_t i = 0; i < kStretches; ++i) {
    const auto begin = points.begin() + static_cast<int64_t>(i * points.size() / kStretches);
    const auto end = points.begin() + static_cast<int64_t>((i + 1) * points.size() / kStretches);
    auto [least, greatest] =
        std::minmax_element(begin, end, [](const auto& a, const auto& b) { return a.second < b.second; });
    if (greatest < least) std::swap(least, greatest);
    kept.push_back(*least);
    if (greatest != least) kept.push_back(*greatest);
  }
  return kept;
}

// From values to the picture.
struct Scale {
  Axis axis;
  double begin, end;
  [[nodiscard]] double at(double value) const {
    return begin + (end - begin) * (value - axis.low) / (axis.high - axis.low);
  }
};

std::string grid(const Scale& x, const Scale& y) {
  std::string text;
  const double slack = 1e-9;
  for (double value = y.axis.low; value <= y.axis.high + slack * y.axis.step; value += y.axis.step) {
    const double shown = std::abs(value) < slack * y.axis.step ? 0 : value;
    text += "<line class=\"grid\" x1=\"" + number(kLeft) + "\" x2=\"" + number(kWidth - kRight) + "\" y1=\"" +
            number(y.at(value)) + "\" y2=\"" + number(y.at(value)) + "\"/><text class=\"tick\" x=\"" +
            number(kLeft - 8) + "\" y=\"" + number(y.at(value) + 4) + "\" text-anchor=\"end\">" + tick_text(shown) +
            "</text>\n";
  }
  for (double value = std::ceil(x.axis.low / x.axis.step) * x.axis.step; value <= x.axis.high; value += x.axis.step) {
    text += "<text class=\"tick\" x=\"" + number(x.at(value)) + "\" y=\"" + number(kHeight - kBottom + 18) +
            "\" text-anchor=\"middle\">" + tick_text(value) + "</text>\n";
  }
  return text;
}

}  // namespace

std::string tick_text(double value) {
  const double size = std::abs(value);
  if (size >= 1e3 && size < 1e9) return base::format_count(std::llround(value));
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.4g", value);
  return text.data();
}

Axis axis_over(double low, double high) {
  if (!(high > low)) {  // one value: a little room around it
    const double room = low == 0 ? 1 : std::abs(low) * 0.1;
    low -= room;
    high += room;
  }
  const double rough = (high - low) / 5;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  const double digit = rough / power;
  const double step = power * (digit <= 1 ? 1 : digit <= 2 ? 2 : digit <= 5 ? 5 : 10);
  return {.low = std::floor(low / step) * step, .high = std::ceil(high / step) * step, .step = step};
}

std::string svg(const Chart& chart) {
  constexpr double kFar = std::numeric_limits<double>::infinity();
  double first = kFar, last = -kFar, low = chart.from_zero ? 0 : kFar, high = -kFar;
  std::vector<Line> lines;
  for (const Line& line : chart.lines) {
    lines.push_back({line.name, line.colour, finite(line.points)});
    for (const auto& [x, y] : lines.back().points) {
      first = std::min(first, x), last = std::max(last, x), low = std::min(low, y), high = std::max(high, y);
    }
  }
  if (first > last) return "";
  Axis steps = axis_over(first, last);
  steps.low = first, steps.high = std::max(last, first + 1), steps.step = std::max(1.0, steps.step);
  const Scale x{steps, kLeft, kWidth - kRight}, y{axis_over(low, high), kHeight - kBottom, kTop};
  std::string text = "<svg viewBox=\"0 0 " + number(kWidth) + " " + number(kHeight) + "\" role=\"img\" aria-label=\"" +
                     chart.title + "\">\n" + grid(x, y);
  for (const Line& line : lines) {
    if (line.points.empty()) continue;
    std::string points;
    for (const auto& [at, value] : thinned(line.points)) points += number(x.at(at)) + "," + number(y.at(value)) + " ";
    const std::string colour = std::to_string(line.colour);
    text += "<polyline class=\"line line" + colour + "\" points=\"" + points + "\"/>\n";
    if (line.points.size() > 1) continue;
    const auto [at, value] = line.points[0];  // a line of one point is none
    text += "<circle class=\"dot dot" + colour + "\" cx=\"" + number(x.at(at)) + "\" cy=\"" + number(y.at(value)) +
            "\" r=\"3\"/>\n";
  }
  return text + "</svg>\n";
}

}  // namespace longfold::cli
