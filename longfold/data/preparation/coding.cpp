#include "longfold/data/preparation/coding.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>

namespace longfold::data {
namespace {

struct GeneticCode {
  int64_t number;
  std::string_view stops;  // those that mean nothing else: in tables 27, 28 and 31 some are codons of amino acids too
};

constexpr std::array<GeneticCode, 27> kCodes{{
    {1, "TAA TAG TGA"},
    {2, "TAA TAG AGA AGG"},
    {3, "TAA TAG"},
    {4, "TAA TAG"},
    {5, "TAA TAG"},
    {6, "TGA"},
    {9, "TAA TAG"},
    {10, "TAA TAG"},
    {11, "TAA TAG TGA"},
    {12, "TAA TAG TGA"},
    {13, "TAA TAG"},
    {14, "TAG"},
    {15, "TAA TGA"},
    {16, "TAA TGA"},
    {21, "TAA TAG"},
    {22, "TCA TAA TGA"},
    {23, "TTA TAA TAG TGA"},
    {24, "TAA TAG"},
    {25, "TAA TAG"},
    {26, "TAA TAG TGA"},
    {27, ""},
    {28, ""},
    {29, "TGA"},
    {30, "TGA"},
    {31, ""},
    {32, "TAA TGA"},
    {33, "TAG"},
}};

std::optional<std::string_view> stops_of(int64_t table) {
  const auto found = std::ranges::find(kCodes, table, &GeneticCode::number);
  return found == kCodes.end() ? std::nullopt : std::optional(found->stops);
}

std::string codon_at(std::string_view bases, size_t at) {
  std::string codon(bases.substr(at, 3));
  std::ranges::transform(codon, codon.begin(), [](unsigned char c) {
    const auto upper = static_cast<char>(std::toupper(c));
    return upper == 'U' ? 'T' : upper;
  });
  return codon;
}

// Of the codons before the last: the first that ends a protein, counted from 1; 0 for none.
size_t stop_within(std::string_view bases, std::string_view stops) {
  for (size_t at = 0; at + 6 <= bases.size(); at += 3) {
    if (stops.find(codon_at(bases, at)) != std::string_view::npos) return at / 3 + 1;
  }
  return 0;
}

// Why it is not taken; "" if it is.
std::string broken(const CodingSequence& coding, const AnnotatedRecord& record, std::string& bases) {
  if (!coding.location.wrong.empty()) return coding.location.wrong;
  std::string wrong;
  if (!bases_at(coding.location.parts, record.bases, record.circular, bases, wrong)) return wrong;
  bases.erase(0, std::min(bases.size(), static_cast<size_t>(coding.skip)));
  const std::optional<std::string_view> stops = stops_of(coding.table);
  if (!stops) return "genetic code " + std::to_string(coding.table) + " is none of NCBI's";
  if (coding.has_exceptions) return "";  // a codon read as selenocysteine, a stop that the poly(A) tail completes
  if (!coding.location.partial && bases.size() % 3 != 0) {
    return std::to_string(bases.size()) + " bases are no whole number of codons";
  }
  const size_t stop = stop_within(bases, *stops);
  return stop == 0 ? "" : "codon " + std::to_string(stop) + " of " + std::to_string(bases.size() / 3) + " is a stop";
}

}  // namespace

bool take_coding(const CodingSequence& coding, const AnnotatedRecord& record, bool keep_partial, std::string& bases,
                 LeftOut& left_out) {
  left_out = {"", record.name, coding.name, coding.location.text, ""};
  const auto leave_out = [&](const char* kind, std::string why) {
    left_out.kind = kind;
    left_out.why = std::move(why);
    return false;
  };
  if (coding.pseudo) return leave_out("pseudo", "its gene makes no protein");
  if (coding.location.remote) return leave_out("remote", "a part of it is in another record");
  if (coding.location.partial && !keep_partial) return leave_out("partial", "an end of it is not in the record");
  std::string why = broken(coding, record, bases);
  return why.empty() || leave_out("broken", std::move(why));
}

}  // namespace longfold::data
