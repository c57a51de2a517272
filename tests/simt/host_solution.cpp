#include "tests/simt/host_solution.h"

#include <algorithm>
#include <type_traits>

#include "longfold/kernels/cuda/mma/pair_copy.cuh"
#include "longfold/kernels/cuda/mma/problem.h"
#include "longfold/kernels/cuda/mma/statistics.cuh"
#include "longfold/kernels/cuda/mma/tensor_maps.h"
#include "longfold/kernels/evoformer/tile_size.h"
#include "tests/simt/host_instances.h"
#include "tests/simt/simt.h"
#include "tests/simt/tensor_map.h"

namespace longfold::kernels::cuda::mma {

bool encode_tensor_map(TensorMap& to, const MappedTensor& tensor) {
  return simt::encode_tensor_map(&to, tensor.data, tensor.element_bytes, tensor.sizes, tensor.strides, tensor.box,
                                 tensor.swizzle_bytes);
}

namespace {

constexpr unsigned kThreads = 128;

// Calls function with the kernels of this type and head dim; false if there are none.
template <class T, class Function>
bool with_kernels(int64_t head_dim, const Function& function) {
#define LONGFOLD_INSTANCE(Type, HeadDim)                                         \
  if constexpr (std::is_same_v<T, Type>) {                                       \
    if (head_dim == (HeadDim)) return function(HostKernels<T, HeadDim>()), true; \
  }
  LONGFOLD_HOST_INSTANCES(LONGFOLD_INSTANCE)
#undef LONGFOLD_INSTANCE
  return false;
}
template <class T, class Function>
bool with_kernels_by_warpgroups(int64_t head_dim, const Function& function) {
#define LONGFOLD_INSTANCE(Type, HeadDim)                                               \
  if constexpr (std::is_same_v<T, Type>) {                                             \
    if (head_dim == (HeadDim)) return function(HostKernelsByWarpgroups<T, HeadDim>()); \
  }
  LONGFOLD_HOST_INSTANCES(LONGFOLD_INSTANCE)
#undef LONGFOLD_INSTANCE
  return false;
}

// Memory of the device: of its exact size, with NaN in it.
class DeviceMemory {
 public:
  explicit DeviceMemory(int64_t num_bytes) : units_(static_cast<size_t>(divide_up(num_bytes, 16)), Unit{-1, -1}) {}
  template <class Element>
  [[nodiscard]] Element* as() {
    return reinterpret_cast<Element*>(units_.data());
  }

 private:
  struct alignas(16) Unit {
    int64_t words[2];
  };
  std::vector<Unit> units_;
};

// As pair_copy.cu does. The memory must outlive what the call is used for.
void copy_pair_bias(Call& call, DeviceMemory& memory, const HostLaunch& launch) {
  set_pair_copy(call, memory.as<void>());
  if (call.pair_copy.from.data == nullptr) return;
  const auto copy = call.form == BiasForm::k16 ? copy_pair<BiasForm::k16> : copy_pair<BiasForm::k32>;
  simt::launch(launch.most_blocks, kThreads, 0, launch.mode, copy, call.pair_copy);
}

template <class T>
void run_backward(const BackwardArgs<T>& args, const Call& call, const HostLaunch& launch) {
  const Problem& p = call.problem;
  BackwardParams params = params_of(args, p);
  const int64_t plane = int64_t{p.Lq} * p.Lk, planes = int64_t{p.B} * p.H;
  const int64_t queries = int64_t{p.B} * p.N * p.H * params.statistics_pitch;
  DeviceMemory statistics(8 * queries), columns(2 * kColumns * queries),
      partials(4 * params.pair_groups * planes * plane);
  params.pair_sums = params.pair_groups > 0 ? partials.as<float>() : nullptr;
  const int64_t pair_strides[4] = {planes * plane, p.H * plane, plane, p.Lk};
  std::copy_n(pair_strides, 4, params.pair_strides);
  const auto head_dim = static_cast<int>(args.q.sizes[4]);
  // Of weights that are uniform those by warpgroups know nothing.
  const bool by_warpgroups =
      launch.by_warpgroups && !p.mean_if_masked && with_kernels_by_warpgroups<T>(head_dim, [&]<class Kernels>(Kernels) {
        params.columns = columns_at(columns.as<void>(), params);
        return Kernels::grad_q(params, call.form, call.one_row, launch) &&
               Kernels::grad_kv(params, call.form, call.one_row, launch) &&
               (params.pair_groups == 0 || Kernels::grad_pair(params, call.form, launch));
      });
  if (!by_warpgroups) {
    params.columns = {};
    params.statistics = statistics.as<QueryStatistics>();
    simt::launch(launch.most_blocks, kThreads, 0, launch.mode, write_statistics<T>, params, head_dim);
    with_kernels<T>(head_dim, [&]<class Kernels>(Kernels) {
      Kernels::grad_q(params, call.form, call.one_row, launch);
      Kernels::grad_kv(params, call.form, call.one_row, launch);
      if (params.pair_groups > 0) Kernels::grad_pair(params, call.form, launch);
    });
  }
  // As finish.cu does, in fp64.
  for (int64_t i = 0; i < (params.pair_groups > 0 ? planes * plane : 0); ++i) {
    double sum = 0;
    for (int group = 0; group < params.pair_groups; ++group) {
      sum += static_cast<double>(params.pair_sums[group * planes * plane + i]);
    }
    args.grad_pair(i / plane / p.H, i / plane % p.H, i % plane / p.Lk, i % p.Lk) = static_cast<float>(sum);
  }
}

}  // namespace

template <class T>
std::optional<Solution> solve_on_host(const kernels::Problem& problem, const HostLaunch& launch) {
  PlacedProblem<T> placed(problem, problem.shape.layout, {});
  const ForwardArgs<T> forward = placed.forward_args();
  const BackwardArgs<T> backward = placed.backward_args();
  std::optional<Call> call = call_of<T>(forward);
  if (!call) return {};
  DeviceMemory pair(num_bytes(call->pair_copy));
  copy_pair_bias(*call, pair, launch);
  const ForwardParams params = params_of(forward, call->problem);
  const auto run_forward = [&]<class Kernels>(Kernels) {
    return Kernels::forward(params, call->form, call->one_row, launch);
  };
  const bool there = launch.by_warpgroups ? with_kernels_by_warpgroups<T>(problem.shape.D, run_forward)
                                          : with_kernels<T>(problem.shape.D, run_forward);
  if (!there) return {};
  run_backward(backward, *call, launch);
  return placed.solution();
}

template std::optional<Solution> solve_on_host<bfloat16>(const kernels::Problem&, const HostLaunch&);
template std::optional<Solution> solve_on_host<float16>(const kernels::Problem&, const HostLaunch&);

}  // namespace longfold::kernels::cuda::mma
