// Short windows side by side in rows of one length.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace longfold::data {

// Which windows share a row of `room` tokens, by index: the longest first, each in the row that it fills best (best
// fit, decreasing). A function of the lengths alone. None is longer than `room`.
[[nodiscard]] std::vector<std::vector<size_t>> pack(std::span<const int64_t> tokens, int64_t room);

}  // namespace longfold::data
