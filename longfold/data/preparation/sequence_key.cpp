#include "longfold/data/preparation/sequence_key.h"

#include <algorithm>

#include "longfold/base/fnv.h"
#include "longfold/data/readers/nucleotides.h"

namespace longfold::data {
namespace {

// FNV-1a, and a polynomial modulo the prime 2^61 - 1.
SequenceKey key_of_strand(std::string_view bases) {
  constexpr uint64_t kPrime = (uint64_t{1} << 61) - 1;
  constexpr uint64_t kPoint = 0x1a2f6b3c5d7e9181u % kPrime;
  base::Fnv1a64 hash;
  uint64_t sum = bases.size();
  for (const char letter : bases) {
    const char upper = letter >= 'a' ? static_cast<char>(letter - 'a' + 'A') : letter;
    const char base = upper == 'U' ? 'T' : upper;
    hash.update(&base, 1);
    __extension__ using Wide = unsigned __int128;
    const Wide product = static_cast<Wide>(sum) * kPoint + static_cast<unsigned char>(base);
    sum = static_cast<uint64_t>(product & kPrime) + static_cast<uint64_t>(product >> 61);
    if (sum >= kPrime) sum -= kPrime;
  }
  return {hash.value(), sum};
}

}  // namespace

SequenceKey sequence_key(std::string_view bases) {
  return std::min(key_of_strand(bases), key_of_strand(reverse_complement(bases)));
}

}  // namespace longfold::data
