// GFF3, with the sequences of its ##FASTA part if it has one. All of it is kept in memory. Lines of type CDS become
// coding sequences: those of one ID are the parts of one, and where they have no ID those of one Parent.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "longfold/data/readers/annotated_record.h"
#include "longfold/data/readers/byte_stream.h"

namespace longfold::data {

struct Gff {
  std::vector<AnnotatedRecord> annotations;  // without bases: a sequence that has lines, in the order of the first
  std::vector<AnnotatedRecord> sequences;    // of the ##FASTA part, without coding
  std::string warning;                       // what was odd and was passed over; else empty
};

// Whether the first bytes of a file are GFF3's, or those of a table with its nine columns.
[[nodiscard]] bool looks_like_gff(std::string_view first_bytes);

// UserError that names the line if the file is no GFF3 or is damaged.
[[nodiscard]] Gff read_gff(std::unique_ptr<ByteStream> stream);

}  // namespace longfold::data
