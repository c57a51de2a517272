// The CPU allocator that counts. Live bytes are the bytes that tensors asked for: not rounded, not what the cache
// keeps.
//
// Blocks are 64-byte aligned. A block of at least kCachedFrom bytes is really as large as its size class (steps of an
// eighth of the power of two below it, so at most 1/8 more), and goes to the cache when it is freed: the kernel takes
// big blocks back at once, and each new one then costs a page fault for every 4 KiB. Smaller ones go back to malloc.
// The cache gives blocks up, those longest unused first, rather than let live + cached pass the limit, or, where there
// is none, 5/4 of the most that was ever live.
//
// Not counted: what was allocated before the installation (such blocks are freed where they came from), and what
// libraries such as MKL allocate for themselves.
#pragma once

#include <c10/core/Allocator.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <unordered_map>

namespace longfold::memory {

class CountingAllocator final : public c10::Allocator {
 public:
  static constexpr size_t kAlignment = 64;
  static constexpr size_t kCachedFrom = 64 * 1024;

  // The one of this process, which takes the place of libtorch's at the first call. Never destroyed: tensors in static
  // storage may outlive everything else, and they free into it. Call it before other threads use libtorch.
  static CountingAllocator& install();
  static bool installed();

  // Throws base::MemoryError when the limit does not allow `bytes` more; nothing has changed then.
  c10::DataPtr allocate(size_t bytes) override;
  c10::DeleterFnPtr raw_deleter() const override;
  void copy_data(void* to, const void* from, size_t bytes) const override;

  void set_limit(int64_t bytes);  // 0: none
  [[nodiscard]] int64_t limit() const;
  [[nodiscard]] int64_t live() const;
  [[nodiscard]] int64_t peak() const;
  [[nodiscard]] int64_t cached() const;
  void reset_peak();  // to what is live
  void trim();        // gives all cached blocks back

 private:
  struct CachedBlock {
    void* data;
    uint64_t freed_at;
  };

  explicit CountingAllocator(c10::Allocator* previous) : previous_(previous) {}
  static void free_block(void* data);
  void* take_block(size_t bytes);
  void release(void* data);
  void shrink_cache(int64_t budget);
  [[nodiscard]] int64_t cache_budget() const;

  c10::Allocator* previous_;
  mutable std::mutex mutex_;
  std::unordered_map<void*, size_t> live_blocks_;          // the bytes asked for
  std::map<size_t, std::deque<CachedBlock>> free_blocks_;  // by class size, longest unused first
  uint64_t clock_ = 0;
  int64_t limit_ = 0;
  int64_t live_ = 0;
  int64_t peak_ = 0;
  int64_t most_live_ = 0;
  int64_t cached_ = 0;
};

}  // namespace longfold::memory
