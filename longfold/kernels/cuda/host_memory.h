// Memory of the host that a GPU's copies reach at full speed, while the host goes on: pages that are registered stay
// where they are.
#pragma once

#include <cstddef>
#include <string>

namespace longfold::kernels::cuda {

// "" if done, else why not.
[[nodiscard]] std::string register_host_memory(void* begin, size_t bytes);
void unregister_host_memory(void* begin);

}  // namespace longfold::kernels::cuda
