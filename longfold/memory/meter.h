// How much memory tensors take, exactly, and the most that they may take. A small handle that is passed by value; all
// handles speak of the same process-wide count, which begins at the first install().
#pragma once

#include <cstdint>

#include "longfold/base/text.h"

namespace longfold::memory {

class CountingAllocator;

class MemoryMeter {
 public:
  // Begins to count, if nobody has yet. Call it before other threads use libtorch, and before the tensors that matter.
  static MemoryMeter install();
  // The handle of the count that has begun; throws base::RunError if none has.
  static MemoryMeter installed();

  // From now on a tensor that would take the live bytes over `limit` throws base::RunError, a line that says what was
  // asked for and what is in use; everything stays usable. 0 bytes: no limit.
  void set_limit(base::Bytes limit) const;

  [[nodiscard]] int64_t live() const;  // bytes
  [[nodiscard]] int64_t peak() const;  // the most that was live since the last reset_peak()
  void reset_peak() const;
  void trim() const;  // hands cached blocks back to the system

 private:
  explicit MemoryMeter(CountingAllocator& allocator) : allocator_(&allocator) {}
  CountingAllocator* allocator_;  // lives as long as the process
};

}  // namespace longfold::memory
