// Which sequences train, which validate and which test: a pure function of the seed and of what is split, so that
// sequences which come or go change nothing for the others.
//
//   record    each sequence on its own, by its bases
//   contig    all of one record of the input together, by its name
//   position  along each record: the first part trains, the next validates, the last tests
//   cluster   all of one cluster together, as a file of names and clusters says
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "longfold/data/data_set_info.h"
#include "longfold/data/preparation/sequence_key.h"

namespace longfold::data {

struct SplitOptions {
  std::string by = "record";
  double val = 0;
  double test = 0;
  std::string clusters = {};  // two columns, name and cluster
  int64_t seed = 0;
  [[nodiscard]] bool wanted() const { return val > 0 || test > 0; }
};

inline constexpr std::array<std::string_view, 3> kPartNames{"train", "val", "test"};

class Splits {
 public:
  explicit Splits(SplitOptions options);  // UserError for options that do not fit, and for a bad file of clusters

  [[nodiscard]] const SplitOptions& options() const { return options_; }
  [[nodiscard]] bool by_position() const { return options_.wanted() && options_.by == "position"; }
  [[nodiscard]] std::vector<size_t> parts() const;  // those that are asked for, as indices of kPartNames

  // Not by position. UserError if the sequence is in no cluster.
  [[nodiscard]] size_t part_of(const SequenceInfo& sequence, const SequenceKey& key) const;
  // By position: [begin, end) of a part in a record of `length` bases.
  [[nodiscard]] std::pair<int64_t, int64_t> range(size_t part, int64_t length) const;

 private:
  void read_clusters();
  [[nodiscard]] size_t part_at(double place) const;
  [[nodiscard]] const std::string& cluster_of(const SequenceInfo& sequence) const;

  SplitOptions options_;
  std::unordered_map<std::string, std::string> clusters_;
};

}  // namespace longfold::data
