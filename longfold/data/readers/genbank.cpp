#include "longfold/data/readers/genbank.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <utility>

#include "longfold/base/text.h"
#include "longfold/data/readers/nucleotides.h"

namespace longfold::data {
namespace {

constexpr size_t kLongestLine = 1 << 20;
constexpr size_t kLongestFeature = 1 << 24;  // of a location, or of a qualifier that is kept
constexpr size_t kDeepestKey = 10;           // keys of features stand in column 6, the rest in column 22
constexpr std::string_view kBlanks = " \t";
constexpr std::array<std::string_view, 8> kKept{"locus_tag",    "protein_id",    "gene",   "codon_start",
                                                "transl_table", "transl_except", "pseudo", "pseudogene"};

std::string_view trimmed(std::string_view text) {
  const size_t first = std::min(text.find_first_not_of(kBlanks), text.size());
  text.remove_prefix(first);
  return text.substr(0, text.find_last_not_of(kBlanks) + 1);
}

std::string_view take_word(std::string_view& text) {
  text = trimmed(text);
  const std::string_view word = text.substr(0, text.find_first_of(kBlanks));
  text.remove_prefix(word.size());
  return word;
}

// Nothing unless all of the text is a number.
std::optional<int64_t> number_of(std::string_view text) {
  int64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc{} || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

std::string shown(std::string_view text) {
  return "'" + base::printable(text, base::kShownName) + "'";
}

std::string unquoted(std::string_view value) {
  if (value.size() < 2 || value.front() != '"' || value.back() != '"') return std::string(value);
  std::string text;
  for (size_t i = 1; i + 1 < value.size(); ++i) {
    text += value[i];
    if (value[i] == '"' && value[i + 1] == '"') ++i;
  }
  return text;
}

}  // namespace

bool GenBankReader::read(std::string_view& line) {
  if (!std::exchange(held_, false) && !lines_.next(line_, kLongestLine)) return false;
  line = line_;
  return true;
}

bool GenBankReader::next(AnnotatedRecord& record) {
  std::string_view line;
  do {
    if (!read(line)) return false;
  } while (trimmed(line).empty());
  record = {};
  read_locus(line, record);
  bool has_sequence = false;
  while (true) {
    if (!read(line)) {
      lines_.fail("record " + shown(record.name) + " is cut: expected // at its end");
    }
    if (line.starts_with("//")) break;
    std::string_view rest = line;
    const std::string_view keyword = line.starts_with(' ') ? std::string_view() : take_word(rest);
    if (keyword == "LOCUS") lines_.fail("record " + shown(record.name) + " is cut: expected // before the next LOCUS");
    if (keyword == "ACCESSION" && accession_.empty()) accession_ = take_word(rest);
    if (keyword == "VERSION") version_ = take_word(rest);
    record.name = !version_.empty() ? version_ : !accession_.empty() ? accession_ : locus_;
    if (keyword == "FEATURES") read_features(record);
    if (keyword == "ORIGIN") {
      if (std::exchange(has_sequence, true)) lines_.fail("record " + shown(record.name) + " has two sequences");
      read_origin(record);
    }
  }
  if (!has_sequence) {
    lines_.fail_at(record.line, "record " + shown(record.name) +
                                    " has no sequence: expected ORIGIN (NCBI gives it as \"GenBank (full)\")");
  }
  if (std::ssize(record.bases) != length_) {
    lines_.fail("record " + shown(record.name) + ": expected " + std::to_string(length_) +
                " bases, as its LOCUS says, got " + std::to_string(record.bases.size()));
  }
  return true;
}

// LOCUS name number bp ... [linear | circular] ...
void GenBankReader::read_locus(std::string_view line, AnnotatedRecord& record) {
  record.line = lines_.number();
  if (take_word(line) != "LOCUS")
    lines_.fail("expected a record of GenBank, which begins with LOCUS, got " + shown(line_));
  locus_ = record.name = take_word(line);
  accession_.clear();
  version_.clear();
  std::optional<int64_t> length;
  std::string_view unit, before;
  while (!(line = trimmed(line)).empty()) {
    const std::string_view word = take_word(line);
    if (unit.empty() && (word == "bp" || word == "aa" || word == "rc")) {
      unit = word;
      length = number_of(before);
    }
    if (word == "circular") record.circular = true;
    before = word;
  }
  if (unit == "aa") lines_.fail("record " + shown(locus_) + " is a protein: expected nucleotides");
  if (!length || unit != "bp") lines_.fail("expected LOCUS, a name and a number of bp, got " + shown(line_));
  length_ = *length;
}

void GenBankReader::read_features(AnnotatedRecord& record) {
  std::string_view line;
  Feature feature;
  bool is_coding = false;
  std::string qualifier;  // under way, of whatever feature
  bool within = false;    // a quote that its value begins with is not yet closed; "" within it stands for one
  const auto end_qualifier = [&] {
    if (within) {
      lines_.fail("expected a quote that closes /" + qualifier.substr(0, qualifier.find('=')) + " of " +
                  shown(record.name));
    }
    if (is_coding && !qualifier.empty()) read_qualifier(feature, qualifier);
    qualifier.clear();
  };
  const auto end_feature = [&] {
    end_qualifier();
    if (std::exchange(is_coding, false)) add_coding(feature, record);
  };
  while (read(line)) {
    const size_t indent = line.find_first_not_of(' ');
    if (indent == std::string_view::npos) continue;
    if (indent == 0) {
      held_ = true;
      break;
    }
    std::string_view text = trimmed(line);
    if (indent < kDeepestKey && !within) {
      end_feature();
      feature = {};
      feature.line = lines_.number();
      is_coding = take_word(text) == "CDS";
      feature.location = trimmed(text);
    } else if (text.starts_with('/') && !within) {
      end_qualifier();
      qualifier = text.substr(1);
      const std::string_view value = text.substr(std::min(text.find('='), text.size() - 1) + 1);
      within = value.starts_with('"') && std::ranges::count(value, '"') % 2 == 1;
    } else {
      std::string& open = qualifier.empty() ? feature.location : qualifier;
      if (!qualifier.empty()) open += ' ';
      open += text;
      if (within && std::ranges::count(text, '"') % 2 == 1) within = false;
      if (open.size() > kLongestFeature)
        lines_.fail("record " + shown(record.name) + ": a feature of more than 16 MiB");
    }
  }
  end_feature();
}

void GenBankReader::read_qualifier(Feature& feature, std::string_view text) {
  const size_t equals = std::min(text.find('='), text.size());
  const std::string_view name = trimmed(text.substr(0, equals));
  if (std::ranges::find(kKept, name) == kKept.end()) return;
  feature.qualifiers.try_emplace(std::string(name), unquoted(trimmed(text.substr(std::min(equals + 1, text.size())))));
}

void GenBankReader::add_coding(const Feature& feature, AnnotatedRecord& record) const {
  const auto value = [&](std::string_view name) {
    const auto found = feature.qualifiers.find(name);
    return found == feature.qualifiers.end() ? std::string() : found->second;
  };
  CodingSequence coding;
  coding.line = feature.line;
  coding.locus_tag = value("locus_tag");
  coding.protein_id = value("protein_id");
  coding.name = !coding.locus_tag.empty()    ? coding.locus_tag
                : !coding.protein_id.empty() ? coding.protein_id
                                             : value("gene");
  coding.location = parse_location(feature.location, {record.name, accession_, locus_});
  coding.pseudo = feature.qualifiers.contains("pseudo") || feature.qualifiers.contains("pseudogene");
  coding.has_exceptions = feature.qualifiers.contains("transl_except");
  const auto number = [&](std::string_view name, int64_t fallback, int64_t largest) {
    if (!feature.qualifiers.contains(name)) return fallback;
    const std::optional<int64_t> found = number_of(value(name));
    if (found && *found >= 1 && *found <= largest) return *found;
    coding.location.wrong = "/" + std::string(name) + "=" + base::printable(value(name), base::kShownName) +
                            " is none from 1 to " + std::to_string(largest);
    return fallback;
  };
  coding.skip = number("codon_start", 1, 3) - 1;
  coding.table = number("transl_table", 1, 33);
  record.coding.push_back(std::move(coding));
}

// Lines of a number, that of their first base, and blocks of bases.
void GenBankReader::read_origin(AnnotatedRecord& record) {
  std::string_view line;
  while (read(line)) {
    if (line.starts_with("//")) {
      held_ = true;
      return;
    }
    std::string_view rest = line;
    const std::string_view first = take_word(rest);
    if (first.empty()) continue;
    const bool numbered = first.front() >= '0' && first.front() <= '9';
    const std::optional<int64_t> number = numbered ? number_of(first) : std::nullopt;
    const int64_t expected = std::ssize(record.bases) + 1;
    if (numbered && number != expected) {
      lines_.fail("record " + shown(record.name) + ": expected the line of base " + std::to_string(expected) +
                  ", got " + shown(first));
    }
    if (!numbered) rest = line;
    while (!(rest = trimmed(rest)).empty()) {
      const auto column = static_cast<int64_t>(rest.data() - line.data()) + 1;
      const std::string_view block = take_word(rest);
      check_nucleotides(block, record.name, lines_.stream().name(), lines_.number(), column);
      record.bases += block;
    }
  }
}

}  // namespace longfold::data
