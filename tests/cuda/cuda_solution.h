// Solves a problem with the CUDA kernels.
#pragma once

#include "tests/cuda/device_memory.h"
#include "tests/kernels/accuracy_rule.h"

namespace longfold::kernels::cuda {

// A problem's arguments on the device, in the same places of memory as on the host.
template <class T>
class DeviceProblem {
 public:
  explicit DeviceProblem(const Problem& p, Surroundings surroundings = {.filler = std::nan(""), .margin = 40})
      : placed_(p, p.shape.layout, surroundings),
        copy_(placed_.memories()),
        biases_(moved_biases(placed_.forward_args().biases)) {}

  [[nodiscard]] ForwardArgs<T> forward_args() {
    ForwardArgs<T> args = placed_.forward_args();
    args.biases = biases_;
    move(args.q, args.k, args.v, args.out, args.log_sum_exp, args.lse_correction);
    return args;
  }
  [[nodiscard]] BackwardArgs<T> backward_args() {
    BackwardArgs<T> args = placed_.backward_args();
    args.biases = biases_;
    move(args.q, args.k, args.v, args.out, args.log_sum_exp, args.lse_correction, args.grad_out, args.grad_log_sum_exp,
         args.grad_q, args.grad_k, args.grad_v, args.grad_pair, args.grad_mask, args.grad_logits);
    return args;
  }
  [[nodiscard]] Solution solution() {
    copy_.copy_back();
    return placed_.solution();
  }

 private:
  template <class... View>
  void move(View&... views) const {
    ((views.data = copy_.moved(views.data)), ...);
  }
  [[nodiscard]] std::vector<BiasView> moved_biases(std::span<const BiasView> biases) const {
    std::vector<BiasView> result(biases.begin(), biases.end());
    for (BiasView& bias : result) bias.data = copy_.moved(static_cast<const std::byte*>(bias.data));
    return result;
  }

  PlacedProblem<T> placed_;
  DeviceCopy copy_;
  std::vector<BiasView> biases_;
};

template <class T>
Solution solve_on_cuda(const Problem& p) {
  const TestStream stream;
  DeviceProblem<T> problem(p);
  const ForwardArgs<T> forward = problem.forward_args();
  const BackwardArgs<T> backward = problem.backward_args();
  const DeviceBytes for_forward(forward_workspace_bytes(forward)), workspace(backward_workspace_bytes(backward));
  for (const DeviceBytes* bytes : {&for_forward, &workspace}) {
    require(cudaMemset(bytes->span().data(), 0xff, bytes->span().size()));  // NaN
  }
  require(cudaDeviceSynchronize());  // the stream waits for no other
  run_forward(forward, for_forward.span(), stream.get());
  run_backward(backward, workspace.span(), stream.get());
  stream.wait();
  return problem.solution();
}

template <class T>
std::string check_on_cuda(const Problem& problem) {
  return broken_rule<T>(problem, solve_on_cuda<T>(problem), solve_with_reference<T>(problem),
                        solve_with_reference<double>(problem));
}

}  // namespace longfold::kernels::cuda
