// The kernels of one type and head dim, each in a file of the build folder: see CMakeLists.txt.
#pragma once

#include "longfold/kernels/cuda/evoformer_attention.h"
#include "longfold/kernels/cuda/mma/params.h"

namespace longfold::kernels::cuda::mma {

// *_shared_bytes: the most that a block of these kernels takes.
template <class T, int HeadDim>
struct Kernels {
  static int forward_shared_bytes(BiasForm form, bool one_row);
  static void forward(const ForwardParams& params, BiasForm form, bool one_row, Stream stream);
  static int backward_shared_bytes(BiasForm form, bool one_row);
  static void grad_q(const BackwardParams& params, BiasForm form, bool one_row, Stream stream);
  static void grad_kv(const BackwardParams& params, BiasForm form, bool one_row, Stream stream);
  static void grad_pair(const BackwardParams& params, BiasForm form, Stream stream);
};

}  // namespace longfold::kernels::cuda::mma
