// Chooses among the CUDA kernels: those on tensor cores where they can, else the plain ones.
#include "longfold/kernels/cuda/evoformer_attention.h"

#include "longfold/kernels/cuda/mma/evoformer_attention.h"
#include "longfold/kernels/cuda/plain/evoformer_attention.h"

namespace longfold::kernels::cuda {

template <class T>
void run_forward(const ForwardArgs<T>& args, Stream stream) {
  mma::takes(args) ? mma::run_forward(args, stream) : plain::run_forward(args, stream);
}

template <class T>
int64_t backward_workspace_bytes(const BackwardArgs<T>& args) {
  return mma::takes(args) ? mma::backward_workspace_bytes(args) : plain::backward_workspace_bytes(args);
}

template <class T>
void run_backward(const BackwardArgs<T>& args, std::span<std::byte> workspace, Stream stream) {
  mma::takes(args) ? mma::run_backward(args, workspace, stream) : plain::run_backward(args, workspace, stream);
}

#define LONGFOLD_INSTANTIATE(T)                                         \
  template void run_forward<T>(const ForwardArgs<T>&, Stream);          \
  template int64_t backward_workspace_bytes<T>(const BackwardArgs<T>&); \
  template void run_backward<T>(const BackwardArgs<T>&, std::span<std::byte>, Stream);
LONGFOLD_INSTANTIATE(float)
LONGFOLD_INSTANTIATE(double)
LONGFOLD_INSTANTIATE(bfloat16)
LONGFOLD_INSTANTIATE(float16)
#undef LONGFOLD_INSTANTIATE

}  // namespace longfold::kernels::cuda
