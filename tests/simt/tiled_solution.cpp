#include "tests/simt/tiled_solution.h"

#include <algorithm>
#include <vector>

#include "longfold/kernels/cuda/mma/pair_groups.h"
#include "longfold/kernels/cuda/tiled/delta.cuh"
#include "longfold/kernels/cuda/tiled/forward.cuh"
#include "longfold/kernels/cuda/tiled/grad_kv.cuh"
#include "longfold/kernels/cuda/tiled/grad_pair.cuh"
#include "longfold/kernels/cuda/tiled/grad_q.cuh"
#include "tests/simt/simt.h"

namespace longfold::kernels::cuda::tiled {
namespace {

template <class Pass>
void run_pass(const typename Pass::Params& params, const HostLaunch& launch) {
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(Pass::count(params), launch.most_blocks));
  simt::launch(blocks, kThreads, Pass::kSharedBytes, launch.mode,
               [&] { Pass::run(params, simt::SharedMemory::kBase); });
}

template <class T, int D>
void run_backward(const BackwardArgs<T>& args, const HostLaunch& launch) {
  BackwardParams<T> params = params_of(args);
  const Shape& shape = params.problem.shape;
  const auto plane = static_cast<size_t>(shape.Lq * shape.Lk), planes = static_cast<size_t>(shape.B * shape.H);
  params.pair_groups = mma::pair_groups(shape.B * shape.H, shape.N, shape.Lq, shape.Lk);
  std::vector<float> delta(static_cast<size_t>(shape.B * shape.N * shape.H * shape.Lq), std::nanf("")),
      sums(static_cast<size_t>(params.pair_groups) * planes * plane, std::nanf(""));
  params.delta = delta.data();
  params.pair_sums = pair_planes(sums.data(), shape);
  run_pass<Delta<T, D>>(params, launch);
  run_pass<GradQ<T, D>>(params, launch);
  run_pass<GradKV<T, D>>(params, launch);
  run_pass<GradPair<T, D>>(params, launch);
  if (args.grad_logits.data != nullptr) {
    BackwardParams<T> of_logits = params;
    of_logits.pair_sums = logit_gradients(args.grad_logits);
    of_logits.pair_groups = shape.N;
    of_logits.adds_to_pair_sums = true;
    run_pass<GradPair<T, D>>(of_logits, launch);
  }
  // As mma/finish.cu does, in fp64.
  for (size_t i = 0; i < planes * plane; ++i) {
    double sum = 0;
    for (size_t group = 0; group < static_cast<size_t>(params.pair_groups); ++group) {
      sum += static_cast<double>(sums[group * planes * plane + i]);
    }
    const auto at = static_cast<int64_t>(i), of_head = at / (shape.Lq * shape.Lk);
    args.grad_pair(of_head / shape.H, of_head % shape.H, at / shape.Lk % shape.Lq, at % shape.Lk) =
        static_cast<float>(sum);
  }
}

// Calls function with this head dim as a constant; false if there are no kernels for it.
template <class T, class Function>
bool with_head_dim(int64_t head_dim, const Function& function) {
  const auto is = [&]<int D>() {
    if (head_dim != D) return false;
    function.template operator()<D>();
    return true;
  };
  if constexpr (sizeof(T) == 4) {
    return is.template operator()<8>() || is.template operator()<16>() || is.template operator()<24>() ||
           is.template operator()<32>() || is.template operator()<48>() || is.template operator()<64>() ||
           is.template operator()<96>() || is.template operator()<128>();
  } else {
    return is.template operator()<16>() || is.template operator()<32>() || is.template operator()<128>();
  }
}

}  // namespace

template <class T>
std::optional<Solution> solve_by_tiles(const kernels::Problem& problem, const HostLaunch& launch) {
  PlacedProblem<T> placed(problem, problem.shape.layout, {});
  const ForwardArgs<T> forward = placed.forward_args();
  const BackwardArgs<T> backward = placed.backward_args();
  const bool there = with_head_dim<T>(problem.shape.D, [&]<int D>() {
    run_pass<Forward<T, D>>(params_of(forward), launch);
    run_backward<T, D>(backward, launch);
  });
  return there ? std::optional(placed.solution()) : std::nullopt;
}

template std::optional<Solution> solve_by_tiles<float>(const kernels::Problem&, const HostLaunch&);
template std::optional<Solution> solve_by_tiles<bfloat16>(const kernels::Problem&, const HostLaunch&);
template std::optional<Solution> solve_by_tiles<float16>(const kernels::Problem&, const HostLaunch&);

}  // namespace longfold::kernels::cuda::tiled
