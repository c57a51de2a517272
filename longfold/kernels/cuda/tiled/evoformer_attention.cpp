// Which calls the tiled kernels take, and in which order they run.
#include "longfold/kernels/cuda/tiled/evoformer_attention.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "longfold/kernels/cuda/mma/finish.h"
#include "longfold/kernels/cuda/mma/pair_groups.h"
#include "longfold/kernels/cuda/plain/evoformer_attention.h"
#include "longfold/kernels/cuda/runtime.h"
#include "longfold/kernels/cuda/tiled/built.h"
#include "longfold/kernels/cuda/tiled/instances.h"

namespace longfold::kernels::cuda::tiled {
namespace {

constexpr int64_t kLongest = std::numeric_limits<int32_t>::max() / 2;

// Calls function with the kernels of this type and head dim. Returns whether they were built.
template <class T, class Function>
bool with_kernels(int64_t head_dim, const Function& function) {
#define LONGFOLD_INSTANCE(Type, HeadDim)                                     \
  if constexpr (std::is_same_v<T, Type>) {                                   \
    if (head_dim == (HeadDim)) return function(Kernels<T, HeadDim>()), true; \
  }
  LONGFOLD_TILED_INSTANCES(LONGFOLD_INSTANCE)
#undef LONGFOLD_INSTANCE
  return false;
}

int most_shared_bytes() {
  int device = 0, bytes = 0;
  check(cudaGetDevice(&device), "evoformer_attention");
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "evoformer_attention");
  return bytes;
}

template <class T, class Args, class SharedBytes>
bool fits(const Args& args, const SharedBytes& shared_bytes) {
  if (std::max({args.q.sizes[1], args.q.sizes[2], args.k.sizes[2]}) > kLongest) return false;
  bool is_enough = false;
  with_kernels<T>(args.q.sizes[4],
                  [&]<class Kernels>(Kernels) { is_enough = shared_bytes(Kernels()) <= most_shared_bytes(); });
  return is_enough;
}

// The gradient of a pair bias alone; sums over several calls are the plain kernels' business.
template <class T>
int groups_of(const BackwardArgs<T>& args) {
  const auto& [B, N, Lq, H, D] = args.q.sizes;
  const bool is_plain_sum = !args.add_to_grad_pair && args.grad_pair_rest.data == nullptr;
  if (args.grad_pair.data == nullptr || !is_plain_sum) return 0;
  return mma::pair_groups(B * H, N, Lq, args.k.sizes[2]);
}

// Whether the one group's sums are the gradient.
template <class T>
bool writes_pair_at_once(const BackwardArgs<T>& args) {
  return groups_of(args) == 1 && args.grad_pair.sizes[0] == args.q.sizes[0] &&
         args.grad_pair.sizes[1] == args.q.sizes[3];
}

template <class T>
int64_t delta_bytes(const BackwardArgs<T>& args) {
  const auto& [B, N, Lq, H, D] = args.q.sizes;
  return round_up(B * N * H * Lq * int64_t{sizeof(float)}, 256);
}

template <class T>
void run_pair_sums(BackwardParams<T> params, const PairSums& sums, Stream stream) {
  params.pair_sums = sums;
  with_kernels<T>(params.problem.shape.D, [&]<class Kernels>(Kernels) { Kernels::grad_pair(params, stream); });
}

template <class T>
void run_grad_pair(const BackwardArgs<T>& args, const BackwardParams<T>& params, float* planes, Stream stream) {
  const int groups = groups_of(args);
  if (groups == 0) return plain::run_grad_pair(args, params.delta, stream);
  if (writes_pair_at_once(args)) return run_pair_sums(params, pair_gradient(args.grad_pair), stream);
  const Shape& shape = params.problem.shape;
  run_pair_sums(params, pair_planes(planes, groups, shape), stream);
  mma::run_sum_of_groups(planes, groups, shape, args.grad_pair, stream);
}

template <class T>
void run_grad_logits(const BackwardArgs<T>& args, const BackwardParams<T>& params, Stream stream) {
  if (args.grad_logits_rest.data != nullptr) return plain::run_grad_logits(args, params.delta, stream);
  run_pair_sums(params, logit_gradients(args.grad_logits), stream);
}

}  // namespace

template <class T>
bool takes(const ForwardArgs<T>& args) {
  return fits<T>(args, []<class Kernels>(Kernels) { return Kernels::forward_shared_bytes(); });
}

template <class T>
bool takes(const BackwardArgs<T>& args) {
  return fits<T>(args, []<class Kernels>(Kernels) { return Kernels::backward_shared_bytes(); });
}

template <class T>
void run_forward(const ForwardArgs<T>& args, Stream stream) {
  with_kernels<T>(args.q.sizes[4], [&]<class Kernels>(Kernels) { Kernels::forward(params_of(args), stream); });
}

template <class T>
int64_t backward_workspace_bytes(const BackwardArgs<T>& args) {
  const auto& [B, N, Lq, H, D] = args.q.sizes;
  const int64_t planes = writes_pair_at_once(args) ? 0 : groups_of(args) * B * H;
  return delta_bytes(args) + planes * Lq * args.k.sizes[2] * int64_t{sizeof(float)};
}

template <class T>
void run_backward(const BackwardArgs<T>& args, std::span<std::byte> workspace, Stream stream) {
  if (static_cast<int64_t>(workspace.size()) < backward_workspace_bytes(args)) {
    throw std::invalid_argument("[evoformer_attention_backward] expected a workspace of " +
                                std::to_string(backward_workspace_bytes(args)) + " bytes, got " +
                                std::to_string(workspace.size()));
  }
  with_kernels<T>(args.q.sizes[4], [&]<class Kernels>(Kernels) {
    BackwardParams<T> params = params_of(args);
    params.delta = reinterpret_cast<float*>(workspace.data());
    Kernels::delta(params, stream);
    Kernels::grad_q(params, stream);
    Kernels::grad_kv(params, stream);
    auto* const planes = reinterpret_cast<float*>(workspace.data() + delta_bytes(args));
    if (args.grad_pair.data != nullptr) run_grad_pair(args, params, planes, stream);
    if (args.grad_logits.data != nullptr) run_grad_logits(args, params, stream);
  });
}

#define LONGFOLD_INSTANTIATE(T)                                         \
  template bool takes<T>(const ForwardArgs<T>&);                        \
  template bool takes<T>(const BackwardArgs<T>&);                       \
  template void run_forward<T>(const ForwardArgs<T>&, Stream);          \
  template int64_t backward_workspace_bytes<T>(const BackwardArgs<T>&); \
  template void run_backward<T>(const BackwardArgs<T>&, std::span<std::byte>, Stream);
LONGFOLD_INSTANTIATE(float)
LONGFOLD_INSTANTIATE(bfloat16)
LONGFOLD_INSTANTIATE(float16)
#undef LONGFOLD_INSTANTIATE

}  // namespace longfold::kernels::cuda::tiled
