// Chooses among the CUDA kernels: those on tensor cores where they can, else the tiled ones, else the plain ones.
#include "longfold/kernels/cuda/evoformer_attention.h"

#include <type_traits>

#include "longfold/kernels/cuda/mma/evoformer_attention.h"
#include "longfold/kernels/cuda/plain/evoformer_attention.h"
#include "longfold/kernels/cuda/tiled/evoformer_attention.h"

namespace longfold::kernels::cuda {
namespace {

// fp64 is for the plain kernels alone.
template <class T>
constexpr bool kHasTiles = !std::is_same_v<T, double>;

}  // namespace

template <class T>
int64_t forward_workspace_bytes(const ForwardArgs<T>& args) {
  return mma::takes(args) ? mma::forward_workspace_bytes(args) : 0;
}

template <class T>
void run_forward(const ForwardArgs<T>& args, std::span<std::byte> workspace, Stream stream) {
  if (mma::takes(args)) return mma::run_forward(args, workspace, stream);
  if constexpr (kHasTiles<T>) {
    if (tiled::takes(args)) return tiled::run_forward(args, stream);
  }
  plain::run_forward(args, stream);
}

template <class T>
int64_t backward_workspace_bytes(const BackwardArgs<T>& args) {
  if (mma::takes(args)) return mma::backward_workspace_bytes(args);
  if constexpr (kHasTiles<T>) {
    if (tiled::takes(args)) return tiled::backward_workspace_bytes(args);
  }
  return plain::backward_workspace_bytes(args);
}

template <class T>
void run_backward(const BackwardArgs<T>& args, std::span<std::byte> workspace, Stream stream) {
  if (mma::takes(args)) return mma::run_backward(args, workspace, stream);
  if constexpr (kHasTiles<T>) {
    if (tiled::takes(args)) return tiled::run_backward(args, workspace, stream);
  }
  plain::run_backward(args, workspace, stream);
}

#define LONGFOLD_INSTANTIATE(T)                                                      \
  template int64_t forward_workspace_bytes<T>(const ForwardArgs<T>&);                \
  template void run_forward<T>(const ForwardArgs<T>&, std::span<std::byte>, Stream); \
  template int64_t backward_workspace_bytes<T>(const BackwardArgs<T>&);              \
  template void run_backward<T>(const BackwardArgs<T>&, std::span<std::byte>, Stream);
LONGFOLD_INSTANTIATE(float)
LONGFOLD_INSTANTIATE(double)
LONGFOLD_INSTANTIATE(bfloat16)
LONGFOLD_INSTANTIATE(float16)
#undef LONGFOLD_INSTANTIATE

}  // namespace longfold::kernels::cuda
