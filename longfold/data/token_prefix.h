// What people type where the prefix of a data set is expected, and what to type instead.
#pragma once

#include <string>

namespace longfold::data {

// The prefix, if PREFIX.idx is there or cannot be looked for. UserError that says which prefix may be meant: that of
// the file that was named, one that goes on (as Megatron's _text_document does), or one of those in the folder.
[[nodiscard]] std::string checked_prefix(const std::string& prefix);

[[nodiscard]] bool sidecar_exists(const std::string& path);  // or cannot be looked for

// UserError that says how to write the .json beside a pair of Megatron's, if there is none.
void check_sidecar_exists(const std::string& path);

}  // namespace longfold::data
