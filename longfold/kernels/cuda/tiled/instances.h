// The kernels of one type and head dim, each in a file of the build folder: see CMakeLists.txt.
#pragma once

#include "longfold/kernels/cuda/tiled/arguments.cuh"

namespace longfold::kernels::cuda::tiled {

// *_shared_bytes: the most that a block of these kernels takes.
template <class T, int HeadDim>
struct Kernels {
  static int forward_shared_bytes();
  static void forward(const ForwardParams<T>& params, Stream stream);
  static int backward_shared_bytes();
  static void delta(const BackwardParams<T>& params, Stream stream);
  static void grad_q(const BackwardParams<T>& params, Stream stream);
  static void grad_kv(const BackwardParams<T>& params, Stream stream);
  static void grad_pair(const BackwardParams<T>& params, Stream stream);
};

}  // namespace longfold::kernels::cuda::tiled
