// Tells whether two sequences are the same, read from either strand: 128 bits of hash, the same for a sequence and its
// reverse complement, for lower and upper case, for U and T.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <string_view>

namespace longfold::data {

struct SequenceKey {
  uint64_t first = 0;
  uint64_t second = 0;
  friend auto operator<=>(const SequenceKey&, const SequenceKey&) = default;

  struct Hash {
    size_t operator()(const SequenceKey& key) const { return static_cast<size_t>(key.first ^ key.second); }
  };
};

[[nodiscard]] SequenceKey sequence_key(std::string_view bases);

}  // namespace longfold::data
