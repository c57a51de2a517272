#include "longfold/data/readers/nucleotides.h"

#include <algorithm>
#include <array>
#include <optional>

#include "longfold/base/error.h"
#include "longfold/base/text.h"
#include "longfold/data/readers/fasta.h"
#include "longfold/data/tokenizer.h"

namespace longfold::data {
namespace {

constexpr std::array<char, 256> complements() {
  constexpr std::string_view kFrom = "ACGTURYSWKMBDHVN";
  constexpr std::string_view kTo = "TGCAAYRSWMKVHDBN";
  std::array<char, 256> table{};
  for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<char>(i);
  for (size_t i = 0; i < kFrom.size(); ++i) {
    table[static_cast<unsigned char>(kFrom[i])] = kTo[i];
    table[static_cast<unsigned char>(kFrom[i] - 'A' + 'a')] = static_cast<char>(kTo[i] - 'A' + 'a');
  }
  return table;
}
constexpr std::array<char, 256> kComplements = complements();

}  // namespace

std::string reverse_complement(std::string_view bases) {
  std::string other(bases.size(), '\0');
  std::ranges::transform(bases, other.rbegin(),
                         [](char base) { return kComplements[static_cast<unsigned char>(base)]; });
  return other;
}

void check_nucleotides(std::string_view bases, std::string_view record, std::string_view name, int64_t line,
                       int64_t column) {
  const std::optional<size_t> bad = find_non_nucleotide(bases);
  if (!bad) return;
  const char letter = bases[*bad];
  throw base::UserError(std::string(name) + ":" + std::to_string(line) + ":" +
                        std::to_string(column + static_cast<int64_t>(*bad)) + ": record '" +
                        base::printable(record, base::kShownName) +
                        "': expected a nucleotide (A C G T U or an IUPAC ambiguity code), got " + show_letter(letter) +
                        (letter == '>' ? " (the text before a header is cut, or lacks its line end)" : ""));
}

}  // namespace longfold::data
