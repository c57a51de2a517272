#include "tests/simt/tiled_solution.h"

#include <type_traits>
#include <vector>

#include "longfold/kernels/cuda/mma/pair_groups.h"
#include "tests/simt/host_instances.h"
#include "tests/simt/tiled_kernels.h"

namespace longfold::kernels::cuda::tiled {
namespace {

// Calls function with the kernels of this type and head dim; false if there are none.
template <class T, class Function>
bool with_kernels(int64_t head_dim, const Function& function) {
#define LONGFOLD_INSTANCE(Type, HeadDim)                                         \
  if constexpr (std::is_same_v<T, Type>) {                                       \
    if (head_dim == (HeadDim)) return function(HostKernels<T, HeadDim>()), true; \
  }
  LONGFOLD_HOST_TILED_INSTANCES(LONGFOLD_INSTANCE)
#undef LONGFOLD_INSTANCE
  return false;
}

template <class Kernels, class T>
void run_backward(const BackwardArgs<T>& args, const HostLaunch& launch) {
  BackwardParams<T> params = params_of(args);
  const Shape& shape = params.problem.shape;
  const auto plane = static_cast<size_t>(shape.Lq * shape.Lk), planes = static_cast<size_t>(shape.B * shape.H);
  const auto groups = static_cast<size_t>(mma::pair_groups(shape.B * shape.H, shape.N, shape.Lq, shape.Lk));
  std::vector<float> delta(static_cast<size_t>(shape.B * shape.N * shape.H * shape.Lq), std::nanf("")),
      sums(groups * planes * plane, std::nanf(""));
  params.delta = delta.data();
  Kernels::delta(params, launch);
  Kernels::grad_q(params, launch);
  Kernels::grad_kv(params, launch);
  if (args.grad_logits.data != nullptr) {
    params.pair_sums = logit_gradients(args.grad_logits);
    for (int pass = 0; pass < launch.logit_passes; ++pass) Kernels::grad_pair(params, launch);
  }
  params.pair_sums = pair_planes(sums.data(), static_cast<int64_t>(groups), shape);
  Kernels::grad_pair(params, launch);
  // As mma/finish.cu does, in fp64.
  for (size_t i = 0; i < planes * plane; ++i) {
    double sum = 0;
    for (size_t group = 0; group < groups; ++group) sum += static_cast<double>(sums[group * planes * plane + i]);
    const auto at = static_cast<int64_t>(i), of_head = at / (shape.Lq * shape.Lk);
    args.grad_pair(of_head / shape.H, of_head % shape.H, at / shape.Lk % shape.Lq, at % shape.Lk) =
        static_cast<float>(sum);
  }
}

}  // namespace

template <class T>
std::optional<Solution> solve_by_tiles(const kernels::Problem& problem, const HostLaunch& launch) {
  PlacedProblem<T> placed(problem, problem.shape.layout, {});
  const ForwardArgs<T> forward = placed.forward_args();
  const BackwardArgs<T> backward = placed.backward_args();
  const bool there = with_kernels<T>(problem.shape.D, [&]<class Kernels>(Kernels) {
    Kernels::forward(params_of(forward), launch);
    run_backward<Kernels>(backward, launch);
  });
  return there ? std::optional(placed.solution()) : std::nullopt;
}

template std::optional<Solution> solve_by_tiles<float>(const kernels::Problem&, const HostLaunch&);
template std::optional<Solution> solve_by_tiles<bfloat16>(const kernels::Problem&, const HostLaunch&);
template std::optional<Solution> solve_by_tiles<float16>(const kernels::Problem&, const HostLaunch&);

}  // namespace longfold::kernels::cuda::tiled
