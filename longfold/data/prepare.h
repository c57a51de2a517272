// From FASTA files to a data set of tokens, in a stream: memory grows with the number of records, not with their
// length.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "longfold/data/token_file.h"

namespace longfold::data {

struct PrepareOptions {
  std::vector<std::string> inputs;  // paths; "-" is standard input
  std::string output;               // prefix of the data set
  std::string tokenizer = "genslm69";
  std::string frame = "0";  // "0", "1", "2", or "all" for one sequence per frame and record
};

struct PrepareReport {
  TokenFileInfo info;
  int64_t num_sequences = 0;
  std::vector<std::string> warnings;  // what is odd about the input, a line each
};

// Writes all of the data set or nothing. UserError names file, line, record and letter of what is wrong with the input.
// RunError soon after `stop` has become true.
[[nodiscard]] PrepareReport prepare(const PrepareOptions& options, const std::atomic<bool>& stop = false);

}  // namespace longfold::data
