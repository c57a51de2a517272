// The kernels on tensor cores of one type and head dim, run by the emulator; as mma/instances.h for the device.
#pragma once

#include "longfold/kernels/cuda/mma/params.h"
#include "tests/simt/mode.h"

namespace longfold::kernels::cuda::mma {

// What the host decides, and a result must not depend on.
struct HostLaunch {
  simt::Mode mode;
  unsigned most_blocks = 3;  // fewer than items, so that blocks go through several
  bool has_tensor_maps = false;
  bool by_warpgroups = false;    // where those kernels take the call; they have tensor maps always
  bool has_few_queries = false;  // in blocks of the forward pass by warpgroups
};

template <class T, int HeadDim>
struct HostKernels {
  static void forward(const ForwardParams& params, BiasForm form, bool one_row, const HostLaunch& launch);
  static void grad_q(const BackwardParams& params, BiasForm form, bool one_row, const HostLaunch& launch);
  static void grad_kv(const BackwardParams& params, BiasForm form, bool one_row, const HostLaunch& launch);
  static void grad_pair(const BackwardParams& params, BiasForm form, const HostLaunch& launch);
};

// The same by products of warpgroups, all of whose functions say whether there are tensor maps: else they do nothing.
template <class T, int HeadDim>
struct HostKernelsByWarpgroups {
  static bool forward(const ForwardParams& params, BiasForm form, bool one_row, const HostLaunch& launch);
  static bool grad_q(const BackwardParams& params, BiasForm form, bool one_row, const HostLaunch& launch);
  static bool grad_kv(const BackwardParams& params, BiasForm form, bool one_row, const HostLaunch& launch);
  static bool grad_pair(const BackwardParams& params, BiasForm form, const HostLaunch& launch);
};

}  // namespace longfold::kernels::cuda::mma
