// Which calls run on tensor cores, and as which kernels.
#include "longfold/kernels/cuda/mma/evoformer_attention.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "longfold/kernels/cuda/mma/built.h"
#include "longfold/kernels/cuda/mma/finish.h"
#include "longfold/kernels/cuda/mma/instances.h"
#include "longfold/kernels/cuda/mma/pair_copy.h"
#include "longfold/kernels/cuda/mma/pair_groups.h"
#include "longfold/kernels/cuda/mma/problem.h"
#include "longfold/kernels/cuda/mma/tensor_maps.h"
#include "longfold/kernels/cuda/mma/tile_size.h"
#include "longfold/kernels/cuda/runtime.h"
#include "longfold/kernels/cuda/wgmma/instances.h"
#include "longfold/kernels/evoformer/tile_size.h"

namespace longfold::kernels::cuda::mma {
namespace {

constexpr int64_t kAlignment = 256;  // of what lies in a workspace

template <class T>
constexpr bool kIs16Bit = std::is_same_v<T, bfloat16> || std::is_same_v<T, float16>;

// Calls function with the kernels of this type and head dim. Returns whether they were built.
template <class T, class Function>
bool with_kernels(int64_t head_dim, const Function& function) {
#define LONGFOLD_INSTANCE(Type, HeadDim)                                     \
  if constexpr (std::is_same_v<T, Type>) {                                   \
    if (head_dim == (HeadDim)) return function(Kernels<T, HeadDim>()), true; \
  }
  LONGFOLD_MMA_INSTANCES(LONGFOLD_INSTANCE)
#undef LONGFOLD_INSTANCE
  return false;
}
// The same with those whose products are of warpgroups.
template <class T, class Function>
bool with_warpgroup_kernels(int64_t head_dim, const Function& function) {
#define LONGFOLD_INSTANCE(Type, HeadDim)                                            \
  if constexpr (std::is_same_v<T, Type>) {                                          \
    if (head_dim == (HeadDim)) return function(wgmma::Kernels<T, HeadDim>()), true; \
  }
  LONGFOLD_WGMMA_INSTANCES(LONGFOLD_INSTANCE)
#undef LONGFOLD_INSTANCE
  return false;
}

struct Device {
  int capability, shared_bytes;
};

Device current_device() {
  int device = 0;
  check(cudaGetDevice(&device), "evoformer_attention");
  const auto attribute = [&](cudaDeviceAttr which) {
    int value = 0;
    check(cudaDeviceGetAttribute(&value, which, device), "evoformer_attention");
    return value;
  };
  return {
      .capability = 10 * attribute(cudaDevAttrComputeCapabilityMajor) + attribute(cudaDevAttrComputeCapabilityMinor),
      .shared_bytes = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin)};
}

struct CallOnDevice : Call {
  bool by_warpgroups;
};

// Products of warpgroups where they are and take the call; else those of warps, in blocks of one row where the others
// take more shared memory than there is.
// `more`: what it reads besides q, k, v and biases.
template <class T, class Args, class SharedBytes>
std::optional<CallOnDevice> call_on_device(const Args& args, std::span<const Rows> more,
                                           const SharedBytes& shared_bytes) {
  const std::optional<Call> found = call_of<T>(args);
  if (!found) return {};
  CallOnDevice call{*found, false};
  const int64_t head_dim = args.q.sizes[4];
  const Device device = current_device();
  const bool wants_mean_gradients = !more.empty() && call.problem.mean_if_masked;
  if (device.capability == 90 && !wants_mean_gradients && can_have_maps(call.problem, more)) {
    call.by_warpgroups = with_warpgroup_kernels<T>(head_dim, [](auto) {});
    if (call.by_warpgroups) return call;
  }
  bool fits = false;
  with_kernels<T>(head_dim, [&]<class Kernels>(Kernels) {
    const auto is_enough = [&](bool one_row) {
      return device.capability >= 80 && shared_bytes(Kernels(), call.form, one_row) <= device.shared_bytes;
    };
    fits = is_enough(call.one_row) || is_enough(true);
    call.one_row = call.one_row || !is_enough(false);
  });
  return fits ? std::optional(call) : std::nullopt;
}

template <class T>
std::optional<CallOnDevice> call_on_device(const ForwardArgs<T>& args) {
  return call_on_device<T>(args, {}, []<class Kernels>(Kernels, BiasForm form, bool one_row) {
    return Kernels::forward_shared_bytes(form, one_row);
  });
}
template <class T>
std::optional<CallOnDevice> call_on_device(const BackwardArgs<T>& args) {
  const Rows more[] = {rows_of_view(args.out), rows_of_view(args.grad_out)};
  return call_on_device<T>(args, more, []<class Kernels>(Kernels, BiasForm form, bool one_row) {
    return Kernels::backward_shared_bytes(form, one_row);
  });
}

// Calls function with the kernels that the call is for.
template <class T, class Function>
void with_kernels_of(const CallOnDevice& call, int64_t head_dim, const Function& function) {
  if (call.by_warpgroups)
    with_warpgroup_kernels<T>(head_dim, function);
  else
    with_kernels<T>(head_dim, function);
}

template <class T>
bool have_equal_strides(const TensorView<T, 4>& a, const TensorView<T, 4>& b) {
  for (size_t dim = 0; dim < 4; ++dim) {
    if (a.sizes[dim] != 1 && a.strides[dim] != b.strides[dim]) return false;
  }
  return true;
}

template <class T>
int64_t statistics_bytes(const BackwardArgs<T>& args, bool by_warpgroups) {
  const auto& [B, N, Lq, H, D] = args.q.sizes;
  const int64_t of_query = by_warpgroups ? kColumns * int64_t{sizeof(T)} : int64_t{sizeof(QueryStatistics)};
  return B * N * H * (divide_up(Lq, kMostQueries) * kMostQueries) * of_query;
}

template <class T>
int groups_of(const BackwardArgs<T>& args) {
  const auto& [B, N, Lq, H, D] = args.q.sizes;
  return args.grad_pair.data == nullptr ? 0 : pair_groups(B * H, N, Lq, args.k.sizes[2]);
}

// Whether the one group's sums are the gradient, as it lies.
template <class T>
bool writes_pair_at_once(const BackwardArgs<T>& args) {
  const auto& pair = args.grad_pair;
  return groups_of(args) == 1 && pair.sizes[0] == args.q.sizes[0] && pair.sizes[1] == args.q.sizes[3] &&
         (pair.strides[3] == 1 || pair.sizes[3] == 1);
}

template <class T>
int64_t pair_plane(const BackwardArgs<T>& args) {
  return args.q.sizes[2] * args.k.sizes[2];
}

template <class T>
int64_t pair_sums_bytes(const BackwardArgs<T>& args) {
  const auto& [B, N, Lq, H, D] = args.q.sizes;
  const int64_t planes = writes_pair_at_once(args) ? 0 : groups_of(args) * B * H;
  return kernels::round_up(planes * pair_plane(args) * int64_t{sizeof(float)}, kAlignment);
}

void check_workspace(std::span<std::byte> workspace, int64_t expected, const char* name) {
  if (static_cast<int64_t>(workspace.size()) >= expected) return;
  throw std::invalid_argument("[" + std::string(name) + "] expected a workspace of " + std::to_string(expected) +
                              " bytes, got " + std::to_string(workspace.size()));
}

// Rows n of a call, which run as a call of their own.
template <class View>
void take_rows(View& view, int64_t begin, int64_t count) {
  if (view.data == nullptr) return;
  view.data += begin * view.strides[1];
  view.sizes[1] = count;
}
void take_rows(std::vector<BiasView>& biases, int64_t begin) {
  for (BiasView& bias : biases) {
    bias.data = static_cast<const std::byte*>(bias.data) + begin * bias.strides[1] * size_of(bias.dtype);
  }
}
template <class Args>
void take_rows_of_all(Args& args, int64_t begin, int64_t count) {
  const auto take = [&](auto&... views) { (take_rows(views, begin, count), ...); };
  take(args.q, args.k, args.v, args.out, args.log_sum_exp, args.lse_correction);
  if constexpr (requires { args.grad_q; }) {
    take(args.grad_out, args.grad_log_sum_exp, args.grad_q, args.grad_k, args.grad_v, args.grad_mask);
  }
}

template <class T, class Args>
int64_t rows_at_once(const Args& args) {
  return mma::rows_at_once(call_of<T>(args).value().pair_copy, args.q.sizes[1]);
}
// Calls function with all rows of the call, in as many parts as it takes.
template <class T, class Args, class Function>
void for_rows_at_once(const Args& args, const Function& function) {
  const int64_t N = args.q.sizes[1], at_once = rows_at_once<T>(args);
  for (int64_t begin = 0; begin < N; begin += at_once) {
    Args part = args;
    take_rows_of_all(part, begin, std::min(at_once, N - begin));
    std::vector<BiasView> biases(args.biases.begin(), args.biases.end());
    take_rows(biases, begin);
    part.biases = biases;
    function(part);
  }
}
// The first of them, which is the largest. Its biases are those of the call.
template <class T, class Args>
Args first_rows(const Args& args) {
  Args part = args;
  take_rows_of_all(part, 0, rows_at_once<T>(args));
  return part;
}

// `at`: where in the workspace the copy of the pair bias is to lie, if there is one.
void copy_pair_bias(CallOnDevice& call, std::byte* at, Stream stream) {
  set_pair_copy(call, at);
  if (call.pair_copy.from.data != nullptr) run_pair_copy(call.pair_copy, call.form, stream);
}

template <class T>
BackwardParams params_with(const BackwardArgs<T>& args, const CallOnDevice& call, std::span<std::byte> workspace) {
  const Problem& problem = call.problem;
  BackwardParams params = params_of(args, problem);
  if (call.by_warpgroups)
    params.columns = columns_at(workspace.data(), params);
  else
    params.statistics = reinterpret_cast<QueryStatistics*>(workspace.data());
  if (writes_pair_at_once(args)) {
    params.pair_sums = args.grad_pair.data;
    std::copy_n(args.grad_pair.strides.begin(), 3, params.pair_strides + 1);
  } else if (params.pair_groups > 0) {
    params.pair_sums = reinterpret_cast<float*>(workspace.data() + statistics_bytes(args, call.by_warpgroups));
    const int64_t plane = pair_plane(args), H = problem.H,
                  strides[4] = {problem.B * H * plane, H * plane, plane, problem.Lk};
    std::copy_n(strides, 4, params.pair_strides);
  }
  return params;
}

template <class T>
void run_rows_backward(const BackwardArgs<T>& args, std::span<std::byte> workspace, Stream stream) {
  CallOnDevice call = call_on_device(args).value();
  copy_pair_bias(call, workspace.data() + statistics_bytes(args, call.by_warpgroups) + pair_sums_bytes(args), stream);
  const BackwardParams params = params_with(args, call, workspace);
  if (!call.by_warpgroups) run_statistics<T>(params, static_cast<int>(args.q.sizes[4]), stream);
  with_kernels_of<T>(call, args.q.sizes[4], [&]<class Kernels>(Kernels) {
    Kernels::grad_q(params, call.form, call.one_row, stream);
    Kernels::grad_kv(params, call.form, call.one_row, stream);
    if (params.pair_groups > 0) Kernels::grad_pair(params, call.form, stream);
  });
  if (params.pair_groups > 0 && !writes_pair_at_once(args)) {
    const auto& [B, N, Lq, H, D] = args.q.sizes;
    const Shape shape{.B = B, .N = N, .Lq = Lq, .Lk = args.k.sizes[2], .H = H, .D = D};
    run_sum_of_groups(params.pair_sums, params.pair_groups, shape, args.grad_pair, stream);
  }
}

}  // namespace

template <class T>
bool takes(const ForwardArgs<T>& args) {
  if constexpr (kIs16Bit<T>)
    return have_equal_strides(args.log_sum_exp, args.lse_correction) && call_on_device(args).has_value();
  else
    return false;
}

template <class T>
int64_t forward_workspace_bytes(const ForwardArgs<T>& args) {
  if constexpr (kIs16Bit<T>)
    return num_bytes(call_on_device(first_rows<T>(args)).value().pair_copy);
  else
    return 0;
}

template <class T>
void run_forward(const ForwardArgs<T>& args, std::span<std::byte> workspace, Stream stream) {
  if constexpr (kIs16Bit<T>) {
    check_workspace(workspace, forward_workspace_bytes(args), "evoformer_attention");
    for_rows_at_once<T>(args, [&](const ForwardArgs<T>& part) {
      CallOnDevice call = call_on_device(part).value();
      copy_pair_bias(call, workspace.data(), stream);
      const ForwardParams params = params_of(part, call.problem);
      with_kernels_of<T>(call, part.q.sizes[4],
                         [&]<class Kernels>(Kernels) { Kernels::forward(params, call.form, call.one_row, stream); });
    });
  }
}

template <class T>
bool takes(const BackwardArgs<T>& args) {
  if constexpr (kIs16Bit<T>) {
    const bool is_plain_sum = !args.add_to_grad_pair && args.grad_pair_rest.data == nullptr;
    if (args.grad_logits.data != nullptr || !is_plain_sum) return false;
    const std::optional<CallOnDevice> call = call_on_device(args);
    return call && (args.grad_pair.data == nullptr || call->pair_copy.N <= 1);
  } else {
    return false;
  }
}

template <class T>
int64_t backward_workspace_bytes(const BackwardArgs<T>& args) {
  if constexpr (kIs16Bit<T>) {
    const BackwardArgs<T> part = first_rows<T>(args);
    const CallOnDevice call = call_on_device(part).value();
    return statistics_bytes(part, call.by_warpgroups) + pair_sums_bytes(part) + num_bytes(call.pair_copy);
  } else {
    return 0;
  }
}

template <class T>
void run_backward(const BackwardArgs<T>& args, std::span<std::byte> workspace, Stream stream) {
  if constexpr (kIs16Bit<T>) {
    check_workspace(workspace, backward_workspace_bytes(args), "evoformer_attention_backward");
    for_rows_at_once<T>(args, [&](const BackwardArgs<T>& part) { run_rows_backward(part, workspace, stream); });
  }
}

#define LONGFOLD_INSTANTIATE(T)                                                      \
  template bool takes<T>(const ForwardArgs<T>&);                                     \
  template bool takes<T>(const BackwardArgs<T>&);                                    \
  template int64_t forward_workspace_bytes<T>(const ForwardArgs<T>&);                \
  template void run_forward<T>(const ForwardArgs<T>&, std::span<std::byte>, Stream); \
  template int64_t backward_workspace_bytes<T>(const BackwardArgs<T>&);              \
  template void run_backward<T>(const BackwardArgs<T>&, std::span<std::byte>, Stream);
LONGFOLD_INSTANTIATE(float)
LONGFOLD_INSTANTIATE(double)
LONGFOLD_INSTANTIATE(bfloat16)
LONGFOLD_INSTANTIATE(float16)
#undef LONGFOLD_INSTANTIATE

}  // namespace longfold::kernels::cuda::mma
