#include "longfold/memory/meter.h"

#include <c10/core/CachingDeviceAllocator.h>

#include "longfold/base/error.h"
#include "longfold/memory/counting_allocator.h"
#include "longfold/memory/dry_run.h"

namespace longfold::memory {
namespace {

c10::CachingAllocator::Stat bytes_on(c10::Device gpu) {
  using c10::CachingAllocator::StatType;
  const auto stats = c10::getDeviceAllocator(gpu.type())->getDeviceStats(gpu.index());
  return stats.allocated_bytes[static_cast<size_t>(StatType::AGGREGATE)];
}

}  // namespace

MemoryMeter MemoryMeter::install() {
  return MemoryMeter(CountingAllocator::install());
}

MemoryMeter MemoryMeter::installed() {
  if (!CountingAllocator::installed()) throw base::RunError("[memory] nothing is counted yet: install the meter first");
  return install();
}

MemoryMeter MemoryMeter::dry() {
  return MemoryMeter(DryAllocator::install());
}

MemoryMeter MemoryMeter::on_gpu(c10::Device device) {
  return MemoryMeter(device);
}

void MemoryMeter::set_limit(base::Bytes limit) const {
  if (allocator_ == nullptr) throw base::RunError("[memory] expected a meter of the CPU for a limit, got another");
  allocator_->set_limit(limit.count);
}
int64_t MemoryMeter::live() const {
  return allocator_ != nullptr ? allocator_->live() : dry_ != nullptr ? dry_->live() : bytes_on(gpu_).current;
}
int64_t MemoryMeter::peak() const {
  return allocator_ != nullptr ? allocator_->peak() : dry_ != nullptr ? dry_->peak() : bytes_on(gpu_).peak;
}
void MemoryMeter::reset_peak() const {
  if (allocator_ != nullptr) return allocator_->reset_peak();
  if (dry_ != nullptr) return dry_->reset_peak();
  c10::getDeviceAllocator(gpu_.type())->resetPeakStats(gpu_.index());
}
void MemoryMeter::trim() const {
  if (allocator_ != nullptr) return allocator_->trim();
  if (dry_ != nullptr) return;  // it keeps nothing
  c10::getDeviceAllocator(gpu_.type())->emptyCache();
}

}  // namespace longfold::memory
