// The kernels of one type and head dim, each in a file of the build folder: see CMakeLists.txt. They need compute
// capability 9.0 and tensor maps of what they read.
#pragma once

#include "longfold/kernels/cuda/evoformer_attention.h"
#include "longfold/kernels/cuda/mma/params.h"

namespace longfold::kernels::cuda::wgmma {

using mma::BackwardParams;
using mma::BiasForm;
using mma::ForwardParams;

template <class T, int HeadDim>
struct Kernels {
  static void forward(const ForwardParams& params, BiasForm form, bool one_row, Stream stream);
  static void grad_q(const BackwardParams& params, BiasForm form, bool one_row, Stream stream);
  static void grad_kv(const BackwardParams& params, BiasForm form, bool one_row, Stream stream);
  static void grad_pair(const BackwardParams& params, BiasForm form, Stream stream);
};

}  // namespace longfold::kernels::cuda::wgmma
