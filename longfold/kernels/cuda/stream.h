#pragma once

// What the runtime's cudaStream_t points to: this header needs no CUDA.
struct CUstream_st;

namespace longfold::kernels::cuda {

using Stream = CUstream_st*;

}  // namespace longfold::kernels::cuda
