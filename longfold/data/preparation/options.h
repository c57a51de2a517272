// What `longfold prepare` can be asked for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "longfold/data/preparation/splits.h"
#include "longfold/data/tokenizer.h"

namespace longfold::data {

struct PrepareOptions {
  std::vector<std::string> inputs = {};  // paths; "-" is standard input
  std::string output = {};               // prefix of the data set
  std::string tokenizer = "genslm69";
  std::string frame = "0";          // "0", "1", "2", or "all" for one sequence per frame and record
  std::string take = "records";     // or "cds": coding sequences
  bool keep_partial = false;        // coding sequences too of which an end is not there
  int64_t window = 0;               // tokens of a sequence at most; 0 takes records and coding sequences whole
  int64_t stride = 0;               // tokens from one window to the next; 0 is as many as `window`
  bool reverse_complement = false;  // each sequence a second time, of the other strand
  bool drop_duplicates = false;     // a split always does
  bool soft_mask = false;           // keeps which bases are lower case, for data.masked_weight
  SplitOptions split = {};

  [[nodiscard]] bool coding() const { return take == "cds"; }
  // FASTA records can go through piece by piece.
  [[nodiscard]] bool streams() const;
};

// UserError for options that do not go together.
void check_options(const PrepareOptions& options, const Tokenizer& tokenizer);
[[nodiscard]] std::vector<int64_t> parse_frames(const std::string& frame, const Tokenizer& tokenizer);

}  // namespace longfold::data
