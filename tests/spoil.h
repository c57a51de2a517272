// Good bytes, spoiled: the same ones every run, for readers that must refuse them or read them right.
#pragma once

#include <algorithm>
#include <cstddef>
#include <random>
#include <string>
#include <vector>

namespace longfold {

// Calls action(bytes) `count` times: one of the seeds with bits and bytes changed, words of the format put in, pieces
// cut, doubled and moved.
void for_each_spoiled(const std::vector<std::string>& seeds, const std::vector<std::string>& words, int count,
                      const auto& action) {
  std::mt19937 random(20'261'130);
  const auto below = [&](size_t bound) { return static_cast<size_t>(random()) % std::max<size_t>(bound, 1); };
  for (int i = 0; i < count; ++i) {
    std::string input = seeds[below(seeds.size())];
    for (size_t changes = below(4) + 1; changes > 0; --changes) {
      const size_t at = below(input.size());
      const size_t length = below(20);
      switch (below(6)) {
        case 0:
          if (!input.empty()) input[at] = static_cast<char>(input[at] ^ (1 << below(8)));
          break;
        case 1:
          if (!input.empty()) input[at] = static_cast<char>(random());
          break;
        case 2:
          input.insert(at, words[below(words.size())]);
          break;
        case 3:
          input.erase(at, length);
          break;
        case 4:
          input.insert(below(input.size()), input.substr(at, length * 4));
          break;
        default:
          input.resize(at);
      }
    }
    action(input);
  }
}

constexpr size_t kSpoiledEvery = 97;  // bytes

// Calls action(bytes, at) with each bit of byte `at` flipped, for every `every`-th byte from `first` on.
void for_each_flip(const std::string& bytes, size_t first, size_t every, const auto& action) {
  for (size_t at = first; at < bytes.size(); at += every) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string spoiled = bytes;
      spoiled[at] = static_cast<char>(spoiled[at] ^ (1 << bit));
      action(spoiled, at);
    }
  }
}

// Calls action(bytes, size) with the first bytes alone: none, `every`, twice as many, ..., and with all but the last.
void for_each_cut(const std::string& bytes, size_t every, const auto& action) {
  for (size_t size = 0; size < bytes.size(); size += every) action(bytes.substr(0, size), size);
  action(bytes.substr(0, bytes.size() - 1), bytes.size() - 1);
}

}  // namespace longfold
