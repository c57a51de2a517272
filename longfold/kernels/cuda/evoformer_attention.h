// The CUDA side of Evoformer attention. Without a CUDA build its place is taken by no_cuda.cpp, which throws by name.
#pragma once

#include <string>
#include <string_view>

namespace longfold::kernels::cuda {

// Throws std::runtime_error, naming the op, if this build has no CUDA kernels.
void require_kernels(std::string_view op);

// "found" or "missing: why", for people.
[[nodiscard]] std::string engine_status();

}  // namespace longfold::kernels::cuda
