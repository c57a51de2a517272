#include "longfold/memory/meter.h"

#include <c10/core/AllocatorConfig.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <charconv>
#include <string>

#include "longfold/base/error.h"
#include "longfold/memory/counting_allocator.h"
#include "longfold/memory/dry_run.h"

namespace longfold::memory {
namespace {

c10::CachingDeviceAllocator::DeviceStats stats_of(c10::Device gpu) {
  return c10::getDeviceAllocator(gpu.type())->getDeviceStats(gpu.index());
}

c10::CachingAllocator::Stat bytes_on(c10::Device gpu) {
  return stats_of(gpu).allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)];
}

std::string exact(double value) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof(text), value, std::chars_format::fixed, 17).ptr};
}

// torch's allocator of a GPU reads its settings when the first tensor comes.
void set_up_allocator(c10::Device gpu, int64_t limit) {
  auto* const allocator = c10::getDeviceAllocator(gpu.type());
  const std::string before = c10::CachingAllocator::getAllocatorSettings();  // of the environment, or of this
  std::string settings = before;
  const auto has = [&](const std::string& text) { return before.find(text) != std::string::npos; };
  const auto add = [&](const std::string& setting) { settings += (settings.empty() ? "" : ",") + setting; };
  // Without, free memory that no tensor fits into grows with the step's length.
  if (!has("expandable_segments")) add("expandable_segments:True");
  const auto total = static_cast<int64_t>(allocator->getMemoryInfo(gpu.index()).second);
  if (limit > 0 && limit < total) {
    const std::string key = "per_process_memory_fraction";
    const std::string wanted = key + ":" + exact(static_cast<double>(limit) / static_cast<double>(total));
    if (has(key) && !has(wanted)) {
      throw base::UserError("a GPU's memory is limited twice, by " + base::format_bytes(limit) + " and by " + before +
                            " (PYTORCH_CUDA_ALLOC_CONF): leave out one of them");
    }
    if (!has(key)) add(wanted);
  }
  if (settings == before) return;
  if (allocator->initialized()) throw base::RunError("[memory] expected a GPU's limit before its first tensor");
  c10::CachingAllocator::setAllocatorSettings(settings);
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
  if (dry_ != nullptr) throw base::RunError("[memory] expected a meter of the CPU or a GPU for a limit, got a dry one");
  allocator_ != nullptr ? allocator_->set_limit(limit.count) : set_up_allocator(gpu_, limit.count);
}
int64_t MemoryMeter::live() const {
  return allocator_ != nullptr ? allocator_->live() : dry_ != nullptr ? dry_->live() : bytes_on(gpu_).current;
}
int64_t MemoryMeter::peak() const {
  return allocator_ != nullptr ? allocator_->peak() : dry_ != nullptr ? dry_->peak() : bytes_on(gpu_).peak;
}
int64_t MemoryMeter::held_peak() const {
  if (gpu_.is_cpu()) return peak();
  return stats_of(gpu_).reserved_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak;
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
