// The CUDA runtime, with errors that name what failed and the way out.
#pragma once

#include <cuda_runtime_api.h>

#include <string_view>

namespace longfold::kernels::cuda {

// Throws std::runtime_error, one line, unless `error` is cudaSuccess.
void check(cudaError_t error, std::string_view what);

// After each launch: throws if the kernel could not be started.
void check_launch(std::string_view kernel);

}  // namespace longfold::kernels::cuda
