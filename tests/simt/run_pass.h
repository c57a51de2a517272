// Runs a pass in the emulator as mma/launch.cuh does on the device.
#pragma once

#include <algorithm>

#include "longfold/kernels/cuda/mma/tensor_maps.h"
#include "tests/simt/host_kernels.h"
#include "tests/simt/simt.h"

namespace longfold::kernels::cuda::mma {

inline const BackwardParams* backward_of(const ForwardParams&) {
  return nullptr;
}
inline const BackwardParams* backward_of(const BackwardParams& params) {
  return &params;
}

template <class Pass, class Params>
void launch_pass(const Params& params, int64_t items, const HostLaunch& launch) {
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(items, launch.most_blocks));
  simt::launch(blocks, Pass::kThreads, Pass::kSharedBytes, launch.mode,
               [&] { Pass::run(params, simt::SharedMemory::kBase); });
}

template <class Pass, class Params>
void run_pass(int head_dim, const Params& given, int64_t items, const HostLaunch& launch) {
  Params params = given;
  if (launch.has_tensor_maps) make_tensor_maps(params.problem, backward_of(params), head_dim, boxes_of<Pass>());
  launch_pass<Pass>(params, items, launch);
}

// False where a tensor can have no map: then nothing was done.
template <class Pass, class Params>
bool run_pass_by_warpgroups(int head_dim, const Params& given, int64_t items, const HostLaunch& launch) {
  Params params = given;
  make_tensor_maps(params.problem, backward_of(params), head_dim, boxes_of<Pass>());
  if (params.problem.maps.are_used) launch_pass<Pass>(params, items, launch);
  return params.problem.maps.are_used;
}

template <class Function>
auto with_form(BiasForm form, const Function& function) {
  if (form == BiasForm::kNone) return function.template operator()<BiasForm::kNone>();
  if (form == BiasForm::k16) return function.template operator()<BiasForm::k16>();
  return function.template operator()<BiasForm::k32>();
}
template <class Function>
auto with_form(BiasForm form, bool one_row, const Function& function) {
  return with_form(form, [&]<BiasForm Form>() {
    return one_row ? function.template operator()<Form, true>() : function.template operator()<Form, false>();
  });
}

}  // namespace longfold::kernels::cuda::mma
