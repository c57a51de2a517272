// From FASTA, GenBank and GFF3 to data sets of tokens. Whole records of FASTA are a stream: memory grows with their
// number, not with their length. Whatever needs a record at a time (GenBank, GFF3, windows, splits, duplicates) holds
// one in memory, and coding sequences of GFF3 hold its genome.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "longfold/data/data_set_info.h"
#include "longfold/data/preparation/options.h"

namespace longfold::data {

struct PreparedSet {
  std::string prefix;
  TokenFileInfo info;
  int64_t num_sequences = 0;
};

struct PrepareReport {
  TokenFileInfo info;  // of all sets together
  int64_t num_sequences = 0;
  std::vector<std::string> warnings;  // what is odd about the input, a line each
  std::vector<PreparedSet> sets;      // PREFIX, or PREFIX-train and the others of a split
};

// Writes all of the data sets or nothing. UserError names file, line, record and letter of what is wrong with the
// input. RunError soon after `stop` has become true.
[[nodiscard]] PrepareReport prepare(const PrepareOptions& options, const std::atomic<bool>& stop = false);

}  // namespace longfold::data
