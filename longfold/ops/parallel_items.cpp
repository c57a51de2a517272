#include "longfold/ops/parallel_items.h"

#include <ATen/Parallel.h>
#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <atomic>
#include <memory>

#ifndef _OPENMP
#error "without OpenMP at::parallel_for runs everything on one thread: link libtorch::openmp"
#endif

namespace longfold::ops {
namespace {

constexpr int64_t kAlignment = 64;
// Enough claims for threads to even out, few enough for the shared counter not to matter.
constexpr int64_t kClaimsPerThread = 16;

}  // namespace

Buffer::Buffer(int64_t num_bytes) {
  if (num_bytes == 0) return;
  size_t space = static_cast<size_t>(num_bytes + kAlignment - 1);
  memory_ = c10::GetCPUAllocator()->allocate(space);
  void* start = memory_.get();
  std::align(kAlignment, static_cast<size_t>(num_bytes), start, space);
  bytes_ = {static_cast<std::byte*>(start), static_cast<size_t>(num_bytes)};
}

void parallel_items(int64_t num_items, int64_t scratch_bytes, ItemsBody body) {
  if (num_items == 0) return;
  const int64_t num_threads = at::in_parallel_region() ? 1 : std::min<int64_t>(at::get_num_threads(), num_items);
  const int64_t stride = (scratch_bytes + kAlignment - 1) / kAlignment * kAlignment;
  const Buffer scratch(num_threads * stride);
  const int64_t claim = std::max<int64_t>(1, num_items / (num_threads * kClaimsPerThread));
  std::atomic<int64_t> next = 0;
  at::parallel_for(0, num_threads, 1, [&](int64_t thread, int64_t) {
    const auto own = scratch.bytes().subspan(static_cast<size_t>(thread * stride), static_cast<size_t>(scratch_bytes));
    for (int64_t begin = next.fetch_add(claim); begin < num_items; begin = next.fetch_add(claim)) {
      body(begin, std::min(begin + claim, num_items), own);
    }
  });
}

}  // namespace longfold::ops
