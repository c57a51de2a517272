#include "longfold/data/packing.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

namespace longfold::data {

std::vector<std::vector<size_t>> pack(std::span<const int64_t> tokens, int64_t room) {
  std::vector<size_t> order(tokens.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return tokens[a] > tokens[b]; });
  std::vector<std::vector<size_t>> rows;
  std::set<std::pair<int64_t, size_t>> by_room;  // what is left in each row
  for (const size_t window : order) {
    const auto found = by_room.lower_bound({tokens[window], 0});
    const auto [left, row] = found == by_room.end() ? std::pair{room, rows.size()} : *found;
    if (found == by_room.end())
      rows.emplace_back();
    else
      by_room.erase(found);
    rows[row].push_back(window);
    by_room.insert({left - tokens[window], row});
  }
  return rows;
}

}  // namespace longfold::data
