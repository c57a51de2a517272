// Starting a kernel: as many blocks as the device holds at a time, which go through all items.
#pragma once

#include <algorithm>
#include <stdexcept>
#include <string>

#include "longfold/kernels/cuda/mma/instances.h"
#include "longfold/kernels/cuda/mma/tensor_maps.h"
#include "longfold/kernels/cuda/mma/tile_size.h"
#include "longfold/kernels/cuda/ptx.cuh"
#include "longfold/kernels/cuda/runtime.h"

namespace longfold::kernels::cuda::mma {

template <class Pass, class Params>
__global__ void __launch_bounds__(Pass::kThreads, Pass::kSize.blocks)
    pass_kernel(const __grid_constant__ Params params) {
  // takes() sends no other devices here.
#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
  constexpr bool kIsFor = __CUDA_ARCH__ >= 800 && !Pass::kForWarpgroups;
#else
  constexpr bool kIsFor = true;
#endif
  if constexpr (kIsFor) {
    extern __shared__ __align__(1024) char shared[];
    Pass::run(params, ptx::shared_address(shared));
  } else {
    __trap();
  }
}

inline const BackwardParams* backward_of(const ForwardParams&) {
  return nullptr;
}
inline const BackwardParams* backward_of(const BackwardParams& params) {
  return &params;
}

// HeadDim: of the tensors; tiles may be wider.
template <class Pass, int HeadDim = Pass::QueryTile::kRowBytes / 2, class Params>
void launch(const char* name, Params params, int64_t items, Stream stream) {
  const auto kernel = pass_kernel<Pass, Params>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Pass::kSharedBytes), name);
  cudaFuncAttributes code{};
  check(cudaFuncGetAttributes(&code, kernel), name);
  if (code.ptxVersion >= 90) {  // what the code was compiled for, whatever runs it
    make_tensor_maps(params.problem, backward_of(params), HeadDim, boxes_of<Pass>());
  }
  if (Pass::kForWarpgroups && !params.problem.maps.are_used) {
    throw std::runtime_error(std::string("[") + name + "] the driver made no map of a tensor");
  }
  int device = 0, multiprocessors = 0;
  check(cudaGetDevice(&device), name);
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device), name);
  const int64_t blocks = std::min<int64_t>(items, int64_t{multiprocessors} * Pass::kSize.blocks);
  kernel<<<static_cast<unsigned>(blocks), Pass::kThreads, Pass::kSharedBytes, stream>>>(params);
  check_launch(name);
}

// Calls function with form and one_row as constants.
template <class Function>
auto with_form(BiasForm form, const Function& function) {
  switch (form) {
    case BiasForm::kNone:
      return function.template operator()<BiasForm::kNone>();
    case BiasForm::k16:
      return function.template operator()<BiasForm::k16>();
    case BiasForm::k32:
      break;
  }
  return function.template operator()<BiasForm::k32>();
}
template <class Function>
auto with_form(BiasForm form, bool one_row, const Function& function) {
  return with_form(form, [&]<BiasForm Form>() {
    return one_row ? function.template operator()<Form, true>() : function.template operator()<Form, false>();
  });
}

}  // namespace longfold::kernels::cuda::mma
