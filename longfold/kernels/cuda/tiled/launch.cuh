// Starting a kernel: a block for each item, and where a grid has no room for so many, blocks that go through several.
#pragma once

#include <algorithm>

#include "longfold/kernels/cuda/evoformer_attention.h"
#include "longfold/kernels/cuda/ptx.cuh"
#include "longfold/kernels/cuda/runtime.h"
#include "longfold/kernels/cuda/tiled/tile.cuh"

namespace longfold::kernels::cuda::tiled {

template <class Pass>
__global__ void __launch_bounds__(kThreads, Pass::kBlocks)
    tiled_kernel(const __grid_constant__ typename Pass::Params params) {
  extern __shared__ __align__(16) char shared[];
  Pass::run(params, ptx::shared_address(shared));
}

template <class Pass>
void launch(const char* name, const typename Pass::Params& params, Stream stream) {
  constexpr int64_t kMostBlocks = 0x7fffffff;
  const int64_t blocks = std::min(Pass::count(params), kMostBlocks);
  if (blocks == 0) return;
  check(cudaFuncSetAttribute(tiled_kernel<Pass>, cudaFuncAttributeMaxDynamicSharedMemorySize, Pass::kSharedBytes),
        name);
  tiled_kernel<Pass><<<static_cast<unsigned>(blocks), kThreads, Pass::kSharedBytes, stream>>>(params);
  check_launch(name);
}

}  // namespace longfold::kernels::cuda::tiled
