// Starting a kernel: everything in grid.x, the current device, the caller's stream.
#pragma once

#include <algorithm>

#include "longfold/kernels/cuda/plain/warp.cuh"
#include "longfold/kernels/cuda/runtime.h"
#include "longfold/kernels/evoformer/tile_size.h"

namespace longfold::kernels::cuda::plain {

// A kernel of any number of blocks: its warps or threads step through all rows or elements.
template <class Args>
void launch(const char* name, void (*kernel)(Args), const Args& args, int64_t num_threads, Stream stream) {
  constexpr int64_t kMostBlocks = 0x7fffffff;
  const int64_t blocks = std::min(divide_up(num_threads, kThreads), kMostBlocks);
  kernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(args);
  check_launch(name);
}

}  // namespace longfold::kernels::cuda::plain
