// GenBank records as text, made here so that tests can say their features and damage them.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace longfold::data {

// A line of a feature's table: "CDS|1..9" or "/pseudo".
inline std::string genbank_record(std::string_view bases, const std::vector<std::string>& features,
                                  const std::string& name = "NC_1", const std::string& shape = "linear") {
  std::string text = "LOCUS       " + name + "  " + std::to_string(bases.size()) + " bp    DNA     " + shape +
                     " BCT 01-JAN-2000\nDEFINITION  made for a test.\nACCESSION   " + name + "\nVERSION     " + name +
                     ".1\nFEATURES             Location/Qualifiers\n";
  for (const std::string& feature : features) {
    const size_t bar = feature.find('|');
    std::string key = feature.starts_with('/') || bar == std::string::npos ? "" : feature.substr(0, bar);
    const std::string rest = key.empty() ? feature : feature.substr(bar + 1);
    key.resize(16, ' ');
    text += "     " + key + rest + "\n";
  }
  text += "ORIGIN      \n";
  for (size_t at = 0; at < bases.size(); at += 60) {
    std::string number = std::to_string(at + 1);
    number.insert(0, 9 - number.size(), ' ');
    text += number;
    for (size_t block = at; block < std::min(bases.size(), at + 60); block += 10) {
      text += " " + std::string(bases.substr(block, std::min<size_t>(10, at + 60 - block)));
    }
    text += "\n";
  }
  return text + "//\n";
}

}  // namespace longfold::data
