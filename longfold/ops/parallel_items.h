// Spreads a kernel's items over torch's threads. The kernel's result must not depend on who runs what; ours do not.
#pragma once

#include <c10/core/Allocator.h>
#include <c10/util/FunctionRef.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "longfold/ops/export.h"

namespace longfold::ops {

// Memory for a kernel, from torch's CPU allocator, so that a memory meter counts it.
class Buffer {
 public:
  explicit Buffer(int64_t num_bytes);
  // 64-byte aligned.
  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }

 private:
  c10::DataPtr memory_;
  std::span<std::byte> bytes_;
};

using ItemsBody = c10::function_ref<void(int64_t begin, int64_t end, std::span<std::byte> scratch)>;

// Calls body with ranges that together cover [0, num_items), on up to at::get_num_threads() threads, each with a
// 64-byte aligned scratch of its own. Threads claim ranges as they become free, so that a slow one holds up nobody.
LONGFOLD_OPS_EXPORT void parallel_items(int64_t num_items, int64_t scratch_bytes, ItemsBody body);

}  // namespace longfold::ops
