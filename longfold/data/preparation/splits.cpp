#include "longfold/data/preparation/splits.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "longfold/base/error.h"
#include "longfold/base/fnv.h"
#include "longfold/base/text.h"
#include "longfold/data/readers/lines.h"

namespace longfold::data {
namespace {

using base::UserError;

// In [0, 1): where a thing falls.
double place_of(int64_t seed, std::string_view what) {
  base::Fnv1a64 hash;
  hash.update(&seed, sizeof seed);
  hash.update(what);
  uint64_t z = hash.value();  // FNV's high bits depend little on the last bytes
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  z ^= z >> 31;
  return static_cast<double>(z >> 11) * 0x1p-53;
}

}  // namespace

Splits::Splits(SplitOptions options) : options_(std::move(options)) {
  const std::vector<std::string> known{"record", "contig", "position", "cluster"};
  if (std::ranges::find(known, options_.by) == known.end()) {
    throw UserError("unknown --split-by '" + options_.by + "'" + base::suggestion(options_.by, known));
  }
  for (const auto& [name, value] : {std::pair("val", options_.val), std::pair("test", options_.test)}) {
    if (!(value >= 0 && value < 1)) {
      throw UserError(std::string("expected --") + name + " to be a fraction in [0, 1), got " + std::to_string(value));
    }
  }
  if (options_.val + options_.test >= 1) {
    throw UserError("expected --val and --test to leave something to train on, got " + std::to_string(options_.val) +
                    " and " + std::to_string(options_.test));
  }
  if (!options_.wanted() && (options_.by != "record" || !options_.clusters.empty())) {
    throw UserError("expected a fraction for --val or --test beside " +
                    std::string(options_.clusters.empty() ? "--split-by" : "--clusters") + ", got none");
  }
  if ((options_.by == "cluster") != !options_.clusters.empty()) {
    throw UserError("expected --clusters FILE and --split-by cluster together, got one of them");
  }
  if (!options_.clusters.empty()) read_clusters();
}

std::vector<size_t> Splits::parts() const {
  std::vector<size_t> parts{0};
  if (options_.val > 0) parts.push_back(1);
  if (options_.test > 0) parts.push_back(2);
  return parts;
}

void Splits::read_clusters() {
  constexpr size_t kLongestLine = 1 << 16;
  LineReader lines(std::make_unique<ByteStream>(options_.clusters));
  std::string_view line;
  while (lines.next(line, kLongestLine)) {
    std::vector<std::string> words;
    while (true) {
      line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
      if (line.empty()) break;
      const size_t end = std::min(line.find_first_of(" \t"), line.size());
      words.emplace_back(line.substr(0, end));
      line.remove_prefix(end);
    }
    if (words.empty() || words[0].starts_with('#')) continue;
    if (words.size() != 2) lines.fail("expected a name and a cluster, got " + std::to_string(words.size()) + " words");
    const auto [found, added] = clusters_.try_emplace(words[0], words[1]);
    if (!added && found->second != words[1]) {
      lines.fail("'" + base::printable(words[0], base::kShownName) + "' is in cluster '" +
                 base::printable(found->second, base::kShownName) + "' already, got '" +
                 base::printable(words[1], base::kShownName) + "'");
    }
  }
  if (clusters_.empty()) throw UserError(lines.stream().shown() + " is empty: expected names and clusters");
}

const std::string& Splits::cluster_of(const SequenceInfo& sequence) const {
  for (const std::string& name : {sequence.name, sequence.locus_tag, sequence.protein_id}) {
    const auto found = clusters_.find(name);
    if (!name.empty() && found != clusters_.end()) return found->second;
  }
  throw UserError("'" + options_.clusters + "': expected a cluster for '" +
                  base::printable(sequence.name, base::kShownName) +
                  "', got none (a sequence that is like no other is a cluster of its own)");
}

size_t Splits::part_at(double place) const {
  if (place < options_.test) return 2;
  return place < options_.test + options_.val ? 1 : 0;
}

size_t Splits::part_of(const SequenceInfo& sequence, const SequenceKey& key) const {
  if (options_.by == "cluster") return part_at(place_of(options_.seed, cluster_of(sequence)));
  if (options_.by == "contig") {
    return part_at(place_of(options_.seed, sequence.record.empty() ? sequence.name : sequence.record));
  }
  const std::string_view bytes(reinterpret_cast<const char*>(&key), sizeof key);
  return part_at(place_of(options_.seed, bytes));
}

std::pair<int64_t, int64_t> Splits::range(size_t part, int64_t length) const {
  const auto at = [&](double fraction) {
    return std::clamp<int64_t>(std::llround(fraction * static_cast<double>(length)), 0, length);
  };
  const int64_t val = at(1 - options_.val - options_.test);
  const int64_t test = at(1 - options_.test);
  if (part == 0) return {0, val};
  return part == 1 ? std::pair(val, test) : std::pair(test, length);
}

}  // namespace longfold::data
