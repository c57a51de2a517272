#include "longfold/cli/report_page.h"

#include "longfold/base/text.h"

namespace longfold::cli {
namespace {

// Colours that stay apart for eyes that see fewer of them, on white and on black.
constexpr const char* kStyle = R"(<style>
:root { color-scheme: light dark; --ground: #fff; --text: #1b1f24; --faint: #5d6670; --grid: #e3e6ea; --card: #f6f7f9;
  --line0: #0b61b8; --line1: #b34a00; --line2: #1a7a3c; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171a; --text: #e6e8ea; --faint: #a0a8b0; --grid: #2c3238;
  --card: #1c2024; --line0: #6cb2f7; --line1: #f29a55; --line2: #66cc88; } }
body { margin: 0; background: var(--ground); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 24px 20px 64px; }
h1 { font-size: 1.5rem; margin: 0 0 16px; overflow-wrap: anywhere; }
h2 { font-size: 1rem; margin: 0 0 4px; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(190px, 1fr)); gap: 12px; margin: 0 0 24px; }
.facts div, figure { background: var(--card); border-radius: 8px; padding: 12px 14px; margin: 0; }
.facts dt { color: var(--faint); font-size: 0.85rem; }
.facts dd { margin: 0; font-size: 1.1rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.notes { border-left: 4px solid var(--line1); padding: 4px 14px; margin: 0 0 24px; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr)); gap: 16px; }
figcaption { color: var(--faint); font-size: 0.85rem; }
svg { display: block; width: 100%; height: auto; }
.grid { stroke: var(--grid); stroke-width: 1; }
.tick { fill: var(--faint); font: 15px system-ui, sans-serif; font-variant-numeric: tabular-nums; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.line0 { stroke: var(--line0); } .line1 { stroke: var(--line1); } .line2 { stroke: var(--line2); }
.dot0 { fill: var(--line0); } .dot1 { fill: var(--line1); } .dot2 { fill: var(--line2); }
.key { display: inline-block; width: 14px; height: 3px; vertical-align: middle; margin: 0 5px 0 0; }
.key0 { background: var(--line0); } .key1 { background: var(--line1); } .key2 { background: var(--line2); }
.legend span { margin-right: 16px; white-space: nowrap; }
table { border-collapse: collapse; font-size: 0.9rem; }
td { padding: 2px 18px 2px 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
td:first-child { color: var(--faint); }
details { margin-top: 28px; }
</style>
)";

std::string list(const char* tag, const std::vector<std::pair<std::string, std::string>>& facts) {
  std::string text = std::string("<dl class=\"") + tag + "\">\n";
  for (const auto& [name, value] : facts) {
    text += "<div><dt>" + escaped(name) + "</dt><dd>" + escaped(value) + "</dd></div>\n";
  }
  return text + "</dl>\n";
}

std::string figure(const Chart& chart) {
  const std::string picture = svg(chart);
  if (picture.empty()) return "";
  std::string text = "<figure>\n<h2>" + escaped(chart.title) + "</h2>\n" + picture + "<figcaption class=\"legend\">";
  for (const Line& line : chart.lines) {
    if (line.points.empty()) continue;
    const std::string last = tick_text(line.points.back().second);
    text += "<span><i class=\"key key" + std::to_string(line.colour) + "\"></i>" + escaped(line.name) + ", last " +
            escaped(last) + "</span>";
  }
  return text + "<br>" + (chart.unit.empty() ? "" : escaped(chart.unit) + ", ") + "by step</figcaption>\n</figure>\n";
}

}  // namespace

std::string escaped(const std::string& text) {
  std::string safe;
  for (const char c : base::printable(text)) {
    switch (c) {
      case '&':
        safe += "&amp;";
        break;
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      case '"':
        safe += "&quot;";
        break;
      default:
        safe += c;
    }
  }
  return safe;
}

std::string html(const Page& page) {
  std::string text =
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
      "content=\"width=device-width, initial-scale=1\">\n<title>" +
      escaped(page.title) + "</title>\n" + kStyle + "</head>\n<body>\n<main>\n<h1>" + escaped(page.title) + "</h1>\n" +
      list("facts", page.facts);
  if (!page.notes.empty()) text += list("notes", page.notes);
  text += "<div class=\"charts\">\n";
  for (const Chart& chart : page.charts) text += figure(chart);
  text += "</div>\n<details>\n<summary>Recipe: every option as the newest checkpoint has it</summary>\n<table>\n";
  for (const auto& [name, value] : page.recipe) {
    text += "<tr><td>" + escaped(name) + "</td><td>" + escaped(value) + "</td></tr>\n";
  }
  return text + "</table>\n</details>\n</main>\n</body>\n</html>\n";
}

}  // namespace longfold::cli
