// The tiled kernels of one type and head dim, run by the emulator; as tiled/instances.h for the device.
#pragma once

#include <algorithm>

#include "longfold/kernels/cuda/tiled/arguments.cuh"
#include "longfold/kernels/cuda/tiled/tile.cuh"
#include "tests/simt/simt.h"
#include "tests/simt/tiled_solution.h"

namespace longfold::kernels::cuda::tiled {

template <class T, int HeadDim>
struct HostKernels {
  static void forward(const ForwardParams<T>& params, const HostLaunch& launch);
  static void delta(const BackwardParams<T>& params, const HostLaunch& launch);
  static void grad_q(const BackwardParams<T>& params, const HostLaunch& launch);
  static void grad_kv(const BackwardParams<T>& params, const HostLaunch& launch);
  static void grad_pair(const BackwardParams<T>& params, const HostLaunch& launch);
};

// As tiled/launch.cuh does on the device.
template <class Pass>
void run_pass(const typename Pass::Params& params, const HostLaunch& launch) {
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(Pass::count(params), launch.most_blocks));
  simt::launch(blocks, kThreads, Pass::kSharedBytes, launch.mode,
               [&] { Pass::run(params, simt::SharedMemory::kBase); });
}

}  // namespace longfold::kernels::cuda::tiled
