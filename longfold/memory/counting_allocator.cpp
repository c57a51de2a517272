#include "longfold/memory/counting_allocator.h"

#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <bit>
#include <cstdlib>

#include "longfold/base/error.h"
#include "longfold/base/text.h"

namespace longfold::memory {
namespace {

// Set once by install(); free_block is a plain function pointer and has no other way to the object.
CountingAllocator* the_allocator = nullptr;

constexpr size_t kMostBytes = size_t{1} << 60;  // sums and roundings of what is below cannot overflow

std::string words(size_t bytes) {
  return base::format_bytes(static_cast<int64_t>(std::min(bytes, kMostBytes)));
}

size_t round_up(size_t bytes, size_t step) {
  return (bytes + step - 1) / step * step;
}

size_t block_size(size_t bytes) {
  if (bytes < CountingAllocator::kCachedFrom) return round_up(bytes, CountingAllocator::kAlignment);
  return round_up(bytes, std::bit_floor(bytes) / 8);
}

}  // namespace

CountingAllocator& CountingAllocator::install() {
  static CountingAllocator* const allocator = [] {
    auto* made = new CountingAllocator(c10::GetCPUAllocator());
    the_allocator = made;
    c10::SetCPUAllocator(made);
    if (c10::GetCPUAllocator() != made) {
      the_allocator = nullptr;
      throw base::RunError("[memory] cannot count: another allocator was installed with a higher priority");
    }
    return made;
  }();
  return *allocator;
}

bool CountingAllocator::installed() {
  return the_allocator != nullptr;
}

c10::DataPtr CountingAllocator::allocate(size_t bytes) {
  const c10::Device cpu(c10::DeviceType::CPU);
  if (bytes == 0) return {nullptr, nullptr, &free_block, cpu};
  const std::lock_guard lock(mutex_);
  if (limit_ > 0 && bytes > static_cast<size_t>(std::max<int64_t>(limit_ - live_, 0))) {
    throw base::MemoryError("[memory] this step needs " + words(bytes) + " more, " + base::format_bytes(live_) +
                            " of the " + base::format_bytes(limit_) + " limit are in use");
  }
  void* data = bytes <= kMostBytes ? take_block(bytes) : nullptr;
  if (data == nullptr) {
    throw base::MemoryError("[memory] this step needs " + words(bytes) + " more, the system does not give them; " +
                            base::format_bytes(live_) + " are in use");
  }
  live_blocks_.emplace(data, bytes);
  live_ += static_cast<int64_t>(bytes);
  peak_ = std::max(peak_, live_);
  most_live_ = std::max(most_live_, live_);
  return {data, data, &free_block, cpu};
}

// A block of the right size class from the cache, or a new one; nullptr if the system has none.
void* CountingAllocator::take_block(size_t bytes) {
  const size_t size = block_size(bytes);
  const auto found = free_blocks_.find(size);  // only large blocks are ever there
  if (found != free_blocks_.end()) {
    void* data = found->second.back().data;
    found->second.pop_back();
    if (found->second.empty()) free_blocks_.erase(found);
    cached_ -= static_cast<int64_t>(size);
    return data;
  }
  shrink_cache(cache_budget() - static_cast<int64_t>(size));
  void* data = std::aligned_alloc(kAlignment, size);
  if (data != nullptr || cached_ == 0) return data;
  shrink_cache(0);
  return std::aligned_alloc(kAlignment, size);
}

void CountingAllocator::free_block(void* data) {
  if (data != nullptr) the_allocator->release(data);
}

void CountingAllocator::release(void* data) {
  std::unique_lock lock(mutex_);
  const auto found = live_blocks_.find(data);
  if (found == live_blocks_.end()) {  // oneDNN frees blocks of the previous allocator through the current one
    lock.unlock();
    previous_->raw_deallocate(data);
    return;
  }
  const size_t bytes = found->second;
  live_blocks_.erase(found);
  live_ -= static_cast<int64_t>(bytes);
  if (bytes < kCachedFrom) {
    lock.unlock();
    std::free(data);
    return;
  }
  const size_t size = block_size(bytes);
  free_blocks_[size].push_back({data, ++clock_});
  cached_ += static_cast<int64_t>(size);
  shrink_cache(cache_budget());
}

int64_t CountingAllocator::cache_budget() const {
  const int64_t most = most_live_ + most_live_ / 4;
  return (limit_ > 0 ? std::min(limit_, most) : most) - live_;
}

// Frees cached blocks, those longest unused first, until at most `budget` bytes are cached.
void CountingAllocator::shrink_cache(int64_t budget) {
  while (cached_ > std::max<int64_t>(budget, 0)) {
    const auto oldest =
        std::ranges::min_element(free_blocks_, {}, [](const auto& entry) { return entry.second.front().freed_at; });
    std::free(oldest->second.front().data);
    cached_ -= static_cast<int64_t>(oldest->first);
    oldest->second.pop_front();
    if (oldest->second.empty()) free_blocks_.erase(oldest);
  }
}

c10::DeleterFnPtr CountingAllocator::raw_deleter() const {
  return &free_block;
}

void CountingAllocator::copy_data(void* to, const void* from, size_t bytes) const {
  default_copy_data(to, from, bytes);
}

void CountingAllocator::set_limit(int64_t bytes) {
  const std::lock_guard lock(mutex_);
  limit_ = bytes;
  shrink_cache(cache_budget());
}

int64_t CountingAllocator::limit() const {
  const std::lock_guard lock(mutex_);
  return limit_;
}

int64_t CountingAllocator::live() const {
  const std::lock_guard lock(mutex_);
  return live_;
}

int64_t CountingAllocator::peak() const {
  const std::lock_guard lock(mutex_);
  return peak_;
}

int64_t CountingAllocator::cached() const {
  const std::lock_guard lock(mutex_);
  return cached_;
}

void CountingAllocator::reset_peak() {
  const std::lock_guard lock(mutex_);
  peak_ = live_;
}

void CountingAllocator::trim() {
  const std::lock_guard lock(mutex_);
  shrink_cache(0);
}

}  // namespace longfold::memory
