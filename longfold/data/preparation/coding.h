// Which coding sequences of a record are taken, with their bases, and why the others are not. Nothing is guessed: what
// is pseudo, remote, partial or broken is left out and said.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "longfold/data/data_set_info.h"
#include "longfold/data/readers/annotated_record.h"

namespace longfold::data {

// True: `bases` are those of its codons, from the first whole one on. False: `left_out` says why not.
[[nodiscard]] bool take_coding(const CodingSequence& coding, const AnnotatedRecord& record, bool keep_partial,
                               std::string& bases, LeftOut& left_out);

}  // namespace longfold::data
