// Scratch of an exact size, 64-byte aligned, with known words right before and behind it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace longfold::kernels {

class GuardedBytes {
 public:
  GuardedBytes(int64_t count, uint32_t content, uint32_t canary)
      : count_(static_cast<size_t>(count)),
        canary_(canary),
        words_((count_ + kAlignment + 2 * kGuard) / 4 + 1, canary) {
    const auto address = reinterpret_cast<uintptr_t>(words_.data()) + kGuard;
    first_ = (kGuard + (kAlignment - address % kAlignment) % kAlignment) / 4;
    std::fill_n(words_.begin() + static_cast<std::ptrdiff_t>(first_), count_ / 4, content);
  }

  [[nodiscard]] std::span<std::byte> span() { return {reinterpret_cast<std::byte*>(words_.data() + first_), count_}; }

  [[nodiscard]] bool guards_untouched() const {
    const auto is_canary = [&](uint32_t word) { return word == canary_; };
    const auto first = words_.begin() + static_cast<std::ptrdiff_t>(first_);
    return std::all_of(words_.begin(), first, is_canary) &&
           std::all_of(first + static_cast<std::ptrdiff_t>(count_ / 4), words_.end(), is_canary);
  }

 private:
  static constexpr size_t kAlignment = 64, kGuard = 4096;

  size_t count_;
  uint32_t canary_;
  std::vector<uint32_t> words_;
  size_t first_ = 0;
};

}  // namespace longfold::kernels
