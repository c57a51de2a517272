// One function for each reader: whatever the bytes are, it returns. libFuzzer drives them (tests/fuzz/), and
// so does the seeded loop of fuzz_test.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace longfold::data {

void fuzz_fasta(const uint8_t* bytes, size_t size);
void fuzz_genbank(const uint8_t* bytes, size_t size);
void fuzz_gff(const uint8_t* bytes, size_t size);
void fuzz_index(const uint8_t* bytes, size_t size);

}  // namespace longfold::data
