// The backward pass: one kernel after another, in the order of the stream.
#include <stdexcept>

#include "longfold/kernels/cuda/plain/evoformer_attention.h"

namespace longfold::kernels::cuda::plain {

template <class T>
int64_t backward_workspace_bytes(const BackwardArgs<T>& args) {
  const auto& [B, N, Lq, H, D] = args.q.sizes;
  return B * N * H * Lq * int64_t{sizeof(Accumulator<T>)};
}

template <class T>
void run_backward(const BackwardArgs<T>& args, std::span<std::byte> workspace, Stream stream) {
  if (static_cast<int64_t>(workspace.size()) < backward_workspace_bytes(args)) {
    throw std::invalid_argument("[evoformer_attention_backward] expected a workspace of " +
                                std::to_string(backward_workspace_bytes(args)) + " bytes, got " +
                                std::to_string(workspace.size()));
  }
  auto* delta = reinterpret_cast<Accumulator<T>*>(workspace.data());
  run_grad_q(args, delta, stream);
  run_grad_kv(args, delta, stream);
  if (args.grad_pair.data != nullptr) run_grad_pair(args, delta, stream);
  if (args.grad_logits.data != nullptr) run_grad_logits(args, delta, stream);
}

#define LONGFOLD_INSTANTIATE(T)                                         \
  template int64_t backward_workspace_bytes<T>(const BackwardArgs<T>&); \
  template void run_backward<T>(const BackwardArgs<T>&, std::span<std::byte>, Stream);
LONGFOLD_INSTANTIATE(float)
LONGFOLD_INSTANTIATE(double)
LONGFOLD_INSTANTIATE(bfloat16)
LONGFOLD_INSTANTIATE(float16)
#undef LONGFOLD_INSTANTIATE

}  // namespace longfold::kernels::cuda::plain
