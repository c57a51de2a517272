// Bases as letters: A C G T U, either case, and IUPAC ambiguity codes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace longfold::data {

// Case is kept, U becomes A, ambiguity codes become those of the other strand.
[[nodiscard]] std::string reverse_complement(std::string_view bases);

// UserError "name:line:column: record 'x': expected a nucleotide ..., got ..." for the first letter that is none.
// `column` is that of the first letter.
void check_nucleotides(std::string_view bases, std::string_view record, std::string_view name, int64_t line,
                       int64_t column);

}  // namespace longfold::data
