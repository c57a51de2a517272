// The memory meter as ops, for Python: torch.ops.longfold.memory_peak() and so on.
#include <torch/library.h>

#include "longfold/memory/meter.h"

namespace longfold::memory {
namespace {

TORCH_LIBRARY_FRAGMENT(longfold, m) {
  m.def("memory_install() -> ()", [] { MemoryMeter::install(); });
  m.def("memory_live() -> int", [] { return MemoryMeter::installed().live(); });
  m.def("memory_peak() -> int", [] { return MemoryMeter::installed().peak(); });
  m.def("memory_reset_peak() -> ()", [] { MemoryMeter::installed().reset_peak(); });
}

}  // namespace
}  // namespace longfold::memory
