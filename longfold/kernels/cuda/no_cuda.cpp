// In place of the CUDA kernels where they are not built. LONGFOLD_WHY_NO_CUDA comes from cmake/LongfoldCuda.cmake.
#include <stdexcept>

#include "longfold/kernels/cuda/evoformer_attention.h"
#include "longfold/kernels/cuda/host_memory.h"
#include "longfold/kernels/cuda/training.h"

namespace longfold::kernels::cuda {
namespace {

[[noreturn]] void refuse(const std::string& op) {
  throw std::runtime_error("[" + op + "] expected a build with CUDA kernels, got one without: " LONGFOLD_WHY_NO_CUDA);
}

}  // namespace

template <class T>
int64_t forward_workspace_bytes(const ForwardArgs<T>&) {
  refuse("evoformer_attention");
}
template <class T>
void run_forward(const ForwardArgs<T>&, std::span<std::byte>, Stream) {
  refuse("evoformer_attention");
}
template <class T>
int64_t backward_workspace_bytes(const BackwardArgs<T>&) {
  refuse("evoformer_attention_backward");
}
template <class T>
void run_backward(const BackwardArgs<T>&, std::span<std::byte>, Stream) {
  refuse("evoformer_attention_backward");
}
template <class T>
void sum_middle(const T*, T*, int64_t, int64_t, int64_t, Stream) {
  refuse("evoformer_attention_backward");
}

bool has_training_kernels() {
  return false;
}
template <class T>
void rotate_heads(const RotateArgs<T>&, Stream) {
  refuse("rotate_heads");
}
template <class T>
void adamw(const AdamWArgs<T>&, Stream) {
  refuse("adamw");
}

template <class T>
void sum_of_squares(const T*, int64_t, double*, Stream) {
  refuse("sum_of_squares");
}
template <class T>
void add_heads(const AddHeadsArgs<T>&, Stream) {
  refuse("add_heads");
}

std::string register_host_memory(void*, size_t) {
  return LONGFOLD_WHY_NO_CUDA;
}
void unregister_host_memory(void*) {}

std::string engine_status() {
  return "missing: " LONGFOLD_WHY_NO_CUDA;
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
template void sum_middle<float>(const float*, float*, int64_t, int64_t, int64_t, Stream);
template void sum_middle<double>(const double*, double*, int64_t, int64_t, int64_t, Stream);

template void rotate_heads<bfloat16>(const RotateArgs<bfloat16>&, Stream);
template void rotate_heads<float16>(const RotateArgs<float16>&, Stream);
template void adamw<float>(const AdamWArgs<float>&, Stream);
template void adamw<bfloat16>(const AdamWArgs<bfloat16>&, Stream);
template void adamw<float16>(const AdamWArgs<float16>&, Stream);
template void sum_of_squares<float>(const float*, int64_t, double*, Stream);
template void sum_of_squares<bfloat16>(const bfloat16*, int64_t, double*, Stream);
template void sum_of_squares<float16>(const float16*, int64_t, double*, Stream);
template void add_heads<bfloat16>(const AddHeadsArgs<bfloat16>&, Stream);
template void add_heads<float16>(const AddHeadsArgs<float16>&, Stream);

}  // namespace longfold::kernels::cuda
