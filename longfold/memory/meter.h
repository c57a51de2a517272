// How much memory tensors take, exactly, and the most that they may take. A small handle that is passed by value; all
// handles speak of the same process-wide count, which begins at the first install().
#pragma once

#include <c10/core/Device.h>

#include <cstdint>

#include "longfold/base/text.h"

namespace longfold::memory {

class CountingAllocator;
class DryAllocator;

class MemoryMeter {
 public:
  // Begins to count, if nobody has yet. Call it before other threads use libtorch, and before the tensors that matter.
  static MemoryMeter install();
  // The handle of the count that has begun; throws base::RunError if none has.
  static MemoryMeter installed();

  // The handle of what a dry run counts (memory/dry_run.h), which begins at the first call. It has no limit.
  static MemoryMeter dry();

  // The handle for what tensors take on a GPU, as torch's allocator counts it.
  static MemoryMeter on_gpu(c10::Device device);

  // From now on a tensor that would take the live bytes over `limit` throws base::MemoryError, a line that says what
  // was asked for and what is in use; everything stays usable. 0 bytes: no limit. On a GPU, before its first tensor:
  // the limit is of what torch's allocator holds for tensors, whose error is torch's; with it that allocator is told to
  // use one growing segment, so that it holds hardly more than tensors take.
  void set_limit(base::Bytes limit) const;

  [[nodiscard]] int64_t live() const;  // bytes
  [[nodiscard]] int64_t peak() const;  // the most that was live since the last reset_peak()
  // The same of what the allocator held for them, which on a GPU is more by what lies free between tensors.
  [[nodiscard]] int64_t held_peak() const;
  void reset_peak() const;
  void trim() const;  // hands cached blocks back to the system

 private:
  explicit MemoryMeter(CountingAllocator& allocator) : allocator_(&allocator) {}
  explicit MemoryMeter(DryAllocator& dry) : dry_(&dry) {}
  explicit MemoryMeter(c10::Device gpu) : gpu_(gpu) {}
  CountingAllocator* allocator_ = nullptr;  // lives as long as the process, as the next
  DryAllocator* dry_ = nullptr;
  c10::Device gpu_ = c10::kCPU;  // where both are null
};

}  // namespace longfold::memory
