#include "longfold/memory/meter.h"

#include "longfold/base/error.h"
#include "longfold/memory/counting_allocator.h"

namespace longfold::memory {

MemoryMeter MemoryMeter::install() {
  return MemoryMeter(CountingAllocator::install());
}

MemoryMeter MemoryMeter::installed() {
  if (!CountingAllocator::installed()) throw base::RunError("[memory] nothing is counted yet: install the meter first");
  return install();
}

void MemoryMeter::set_limit(base::Bytes limit) const {
  allocator_->set_limit(limit.count);
}
int64_t MemoryMeter::live() const {
  return allocator_->live();
}
int64_t MemoryMeter::peak() const {
  return allocator_->peak();
}
void MemoryMeter::reset_peak() const {
  allocator_->reset_peak();
}
void MemoryMeter::trim() const {
  allocator_->trim();
}

}  // namespace longfold::memory
