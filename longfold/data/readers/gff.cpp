#include "longfold/data/readers/gff.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "longfold/base/text.h"
#include "longfold/data/readers/lines.h"
#include "longfold/data/readers/nucleotides.h"

namespace longfold::data {
namespace {

constexpr size_t kLongestLine = 1 << 24;
constexpr size_t kLongestSequenceLine = size_t{1} << 34;
constexpr size_t kColumns = 9;
constexpr int kDeepestParent = 8;
constexpr std::string_view kBlanks = " \t";

using Attributes = std::map<std::string, std::string, std::less<>>;

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> fields;
  while (true) {
    const size_t end = text.find(separator);
    fields.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return fields;
    text.remove_prefix(end + 1);
  }
}

// %2C and its like.
std::string decoded(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    int code = 0;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 3, code, 16).ptr == text.data() + i + 3) {
      plain += static_cast<char>(code);
      i += 2;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

std::optional<int64_t> number_of(std::string_view text) {
  int64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  constexpr int64_t kFarthest = int64_t{1} << 50;
  if (code != std::errc{} || end != text.data() + text.size() || value < 1 || value > kFarthest) return std::nullopt;
  return value;
}

std::string value_of(const Attributes& attributes, std::string_view name) {
  const auto found = attributes.find(name);
  return found == attributes.end() ? "" : found->second;
}

// One line of a coding sequence.
struct Segment {
  Part part;
  char strand = '.';
  std::string phase;
  std::string sequence;
  Attributes attributes;
  int64_t line = 0;
};

// What a feature that may be a parent tells about its children.
struct ParentFeature {
  std::string parents;
  std::string locus_tag;
  bool pseudo = false;
};

class GffParser {
 public:
  explicit GffParser(std::unique_ptr<ByteStream> stream) : lines_(std::move(stream)) {}

  Gff run() {
    std::string_view line;
    while (lines_.next(line, kLongestLine)) {
      const bool header = line.starts_with('>');
      if (header || line.starts_with("##FASTA")) {
        read_fasta(header ? line : std::string_view());
        break;
      }
      if (line.starts_with("##gff-version")) check_version(line.substr(13));
      if (line.starts_with('#') || line.find_first_not_of(kBlanks) == std::string_view::npos) continue;
      read_feature(line);
    }
    for (const std::string& key : order_) add_coding(segments_.at(key));
    gff_.warning = lines_.stream().warning();
    return std::move(gff_);
  }

 private:
  void check_version(std::string_view rest) {
    rest.remove_prefix(std::min(rest.find_first_not_of(kBlanks), rest.size()));
    if (rest == "3" || rest.starts_with("3.")) return;
    lines_.fail("expected ##gff-version 3, got '" + base::printable(rest, base::kShownName) +
                "': convert it, for instance by gffread -E FILE -o FILE.gff3");
  }

  void read_feature(std::string_view line) {
    const std::vector<std::string_view> columns = split(line, '\t');
    if (columns.size() != kColumns) {
      lines_.fail("expected the 9 columns of GFF3 between tabs, got " + std::to_string(columns.size()));
    }
    const std::optional<int64_t> begin = number_of(columns[3]);
    const std::optional<int64_t> end = number_of(columns[4]);
    if (!begin || !end || *begin > *end) {
      lines_.fail("expected a first and a last base in columns 4 and 5, got '" +
                  base::printable(columns[3], base::kShownName) + "' and '" +
                  base::printable(columns[4], base::kShownName) + "'");
    }
    Attributes attributes = read_attributes(columns[8]);
    const std::string sequence = decoded(columns[0]);
    AnnotatedRecord& record = annotation_of(sequence);
    if (value_of(attributes, "Is_circular") == "true") {
      record.circular = true;
      circles_[sequence] = *end;
    }
    if (columns[2] != "CDS" && columns[2] != "SO:0000316") {
      const std::string id = value_of(attributes, "ID");
      if (id.empty()) return;
      parents_[id] = {value_of(attributes, "Parent"), value_of(attributes, "locus_tag"),
                      is_pseudo(attributes) || columns[2].find("pseudogen") != std::string_view::npos};
      return;
    }
    const std::string id = value_of(attributes, "ID");
    const std::string parent = value_of(attributes, "Parent");
    const Segment segment{{*begin - 1, *end, columns[6] == "-"},
                          columns[6].size() == 1 ? columns[6][0] : '?',
                          std::string(columns[7]),
                          sequence,
                          std::move(attributes),
                          lines_.number()};
    if (!id.empty())
      add_segment("i" + id, segment);
    else if (parent.empty())
      add_segment("l" + std::to_string(lines_.number()), segment);
    else
      for (const std::string_view one : split(parent, ',')) add_segment("p" + std::string(one), segment);
  }

  // name=value;name=value, the names decoded, the values too.
  Attributes read_attributes(std::string_view text) {
    Attributes attributes;
    for (const std::string_view field : split(text, ';')) {
      if (field.find_first_not_of(kBlanks) == std::string_view::npos || field == ".") continue;
      const size_t equals = field.find('=');
      if (equals == std::string_view::npos) {
        lines_.fail("expected attributes name=value between semicolons, as GFF3 has them, got '" +
                    base::printable(field, base::kShownName) + "' (GTF is converted by gffread -E FILE -o FILE.gff3)");
      }
      const size_t first = field.find_first_not_of(kBlanks);
      attributes.try_emplace(decoded(field.substr(first, equals - first)), decoded(field.substr(equals + 1)));
    }
    return attributes;
  }

  static bool is_pseudo(const Attributes& attributes) {
    return value_of(attributes, "pseudo") == "true" || attributes.contains("pseudogene") ||
           value_of(attributes, "gene_biotype").find("pseudogene") != std::string::npos;
  }

  AnnotatedRecord& annotation_of(const std::string& sequence) {
    const auto [found, added] = index_.try_emplace(sequence, gff_.annotations.size());
    if (added) {
      gff_.annotations.emplace_back();
      gff_.annotations.back().name = sequence;
      gff_.annotations.back().line = lines_.number();
    }
    return gff_.annotations[found->second];
  }

  void add_segment(const std::string& key, const Segment& segment) {
    std::vector<Segment>& segments = segments_[key];
    if (segments.empty()) order_.push_back(key);
    segments.push_back(segment);
  }

  // Names and pseudogenes come from what the parts belong to.
  void inherit(CodingSequence& coding, const std::string& parents, int depth) const {
    if (depth > kDeepestParent) return;
    for (const std::string_view parent : split(parents, ',')) {
      const auto found = parents_.find(std::string(parent));
      if (found == parents_.end()) continue;
      coding.pseudo |= found->second.pseudo;
      if (coding.locus_tag.empty()) coding.locus_tag = found->second.locus_tag;
      inherit(coding, found->second.parents, depth + 1);
    }
  }

  void add_coding(std::vector<Segment> segments) {
    const Segment first = segments.front();
    AnnotatedRecord& record = annotation_of(first.sequence);
    CodingSequence coding;
    coding.line = first.line;
    for (const Segment& segment : segments) {
      coding.pseudo |= is_pseudo(segment.attributes);
      coding.has_exceptions |= segment.attributes.contains("transl_except");
      coding.location.partial |= value_of(segment.attributes, "partial") == "true" ||
                                 segment.attributes.contains("start_range") || segment.attributes.contains("end_range");
    }
    coding.locus_tag = value_of(first.attributes, "locus_tag");
    coding.protein_id = value_of(first.attributes, "protein_id");
    inherit(coding, value_of(first.attributes, "Parent"), 0);
    for (const std::string& name : {coding.locus_tag, coding.protein_id, value_of(first.attributes, "Name"),
                                    value_of(first.attributes, "ID"), value_of(first.attributes, "Parent")}) {
      if (coding.name.empty()) coding.name = name;
    }
    const auto circle = circles_.find(first.sequence);
    order_segments(segments, circle == circles_.end() ? 0 : circle->second, coding.location);
    for (const Segment& segment : segments) coding.location.parts.push_back(segment.part);
    coding.location.text = location_text(coding.location.parts);
    read_phases(segments, coding);
    const std::string table = value_of(first.attributes, "transl_table");
    if (!table.empty()) coding.table = number_of(table).value_or(0);
    record.coding.push_back(std::move(coding));
  }

  // As they are read: upwards on the forward strand, downwards on the other. Parts that touch both ends of a circle
  // (of `circle` bases, 0 for none) are one over its origin.
  static void order_segments(std::vector<Segment>& segments, int64_t circle, Location& location) {
    const char strand = segments.front().strand;
    std::ranges::stable_sort(segments, {}, [](const Segment& segment) { return segment.part.begin; });
    const bool over_origin =
        circle > 0 && segments.size() > 1 && segments.front().part.begin == 0 && segments.back().part.end == circle;
    if (over_origin && segments.size() > 2)
      location.wrong = "several parts beside one over the origin: their order is not said";
    if ((strand == '-') != over_origin) std::ranges::reverse(segments);
    if (strand != '+' && strand != '-') location.wrong = "it has no strand";
    for (const Segment& segment : segments) {
      if (segment.strand != strand) location.wrong = "its parts are on both strands: their order is not said";
      if (segment.sequence != segments.front().sequence) location.wrong = "its parts are on several sequences";
    }
  }

  // The phase of each part must follow from that of the first and the bases before it.
  static void read_phases(const std::vector<Segment>& segments, CodingSequence& coding) {
    int64_t next = -1;
    for (const Segment& segment : segments) {
      const bool known = segment.phase == "0" || segment.phase == "1" || segment.phase == "2";
      if (!known) {
        coding.location.wrong = "a part has no phase of 0, 1 or 2";
        return;
      }
      const int64_t phase = segment.phase[0] - '0';
      if (next < 0) {
        coding.skip = next = phase;
      } else if (phase != next && coding.location.wrong.empty()) {
        coding.location.wrong = "the phases of its parts do not follow from each other";
      }
      next = ((next - (segment.part.end - segment.part.begin)) % 3 + 3) % 3;
    }
  }

  void read_fasta(std::string_view line) {
    std::unordered_set<std::string> names;
    do {
      const std::string_view text = line.substr(0, line.find_last_not_of(kBlanks) + 1);
      if (text.starts_with('>')) {
        const std::string_view words = text.substr(std::min(text.find_first_not_of(kBlanks, 1), text.size()));
        gff_.sequences.emplace_back();
        AnnotatedRecord& record = gff_.sequences.back();
        record.name = words.substr(0, words.find_first_of(kBlanks));
        record.line = lines_.number();
        if (!names.insert(record.name).second) {
          lines_.fail("sequence '" + base::printable(record.name, base::kShownName) + "' came before");
        }
      } else if (!text.empty()) {
        if (gff_.sequences.empty()) lines_.fail("expected '>' and a name after ##FASTA");
        AnnotatedRecord& record = gff_.sequences.back();
        check_nucleotides(text, record.name, lines_.stream().name(), lines_.number(), 1);
        record.bases += text;
      }
    } while (lines_.next(line, kLongestSequenceLine));
  }

  LineReader lines_;
  Gff gff_;
  std::unordered_map<std::string, size_t> index_;     // of annotations, by the sequence's name
  std::unordered_map<std::string, int64_t> circles_;  // bases of circular sequences
  std::unordered_map<std::string, ParentFeature> parents_;
  std::unordered_map<std::string, std::vector<Segment>> segments_;
  std::vector<std::string> order_;  // keys of segments_
};

}  // namespace

bool looks_like_gff(std::string_view first_bytes) {
  for (std::string_view rest = first_bytes; !rest.empty();) {
    const size_t end = std::min(rest.find_first_of("\r\n"), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.starts_with("##gff-version")) return true;
    if (line.empty() || line.starts_with('#')) continue;
    const std::vector<std::string_view> columns = split(line, '\t');
    return columns.size() == kColumns && number_of(columns[3]) && number_of(columns[4]);
  }
  return false;
}

Gff read_gff(std::unique_ptr<ByteStream> stream) {
  return GffParser(std::move(stream)).run();
}

}  // namespace longfold::data
