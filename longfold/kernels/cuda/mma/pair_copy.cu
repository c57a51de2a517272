#include "longfold/kernels/cuda/mma/pair_copy.cuh"

#include <algorithm>

#include "longfold/kernels/cuda/runtime.h"

namespace longfold::kernels::cuda::mma {
namespace {

constexpr int kThreads = 128;

template <BiasForm Form>
__global__ void __launch_bounds__(kThreads) pair_copy_kernel(const __grid_constant__ PairCopy copy) {
  copy_pair<Form>(copy);
}

}  // namespace

void run_pair_copy(const PairCopy& copy, BiasForm form, Stream stream) {
  constexpr int64_t kMostBlocks = 0x7fffffff;
  const auto blocks = static_cast<unsigned>(std::min(int64_t{copy.B} * copy.N * copy.Lq, kMostBlocks));
  if (form == BiasForm::k16)
    pair_copy_kernel<BiasForm::k16><<<blocks, kThreads, 0, stream>>>(copy);
  else
    pair_copy_kernel<BiasForm::k32><<<blocks, kThreads, 0, stream>>>(copy);
  check_launch("evoformer_attention");
}

}  // namespace longfold::kernels::cuda::mma
