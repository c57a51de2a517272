// PREFIX.json: what a data set says that Megatron's two files have no place for.
#pragma once

#include <string>
#include <vector>

#include "longfold/data/data_set_info.h"
#include "longfold/data/tokenizer.h"

namespace longfold::data {

struct Sidecar {
  TokenFileInfo info;
  std::vector<SequenceInfo> sequences;
  std::string content_hash;
  std::string mask_hash = {};  // of PREFIX.mask; empty if there is none
};

[[nodiscard]] std::string sidecar_text(const Tokenizer& tokenizer, const Sidecar& sidecar);

// UserError that names the file if it is damaged or of another version. True for one of three keys, written by hand
// beside a pair of Megatron's: then only the tokenizer is read.
[[nodiscard]] bool read_sidecar(const std::string& path, Tokenizer& tokenizer, Sidecar& sidecar);

}  // namespace longfold::data
