// delta, the sum of weights times their gradients less grad_log_sum_exp, then grad_q: the keys' sum of logit gradients
// times k. delta is summed from the weights in every type, since a rounded output would be too coarse.
#include "longfold/kernels/cuda/plain/columns.cuh"
#include "longfold/kernels/cuda/plain/evoformer_attention.h"
#include "longfold/kernels/cuda/plain/launch.cuh"
#include "longfold/kernels/cuda/plain/logits.cuh"

namespace longfold::kernels::cuda::plain {
namespace {

template <class T>
struct KernelArgs {
  GradientArgs<T> gradients;
  DeviceView<T, 5> grad_q;  // [B, N, Lq, H, D]
  Accumulator<T>* delta;    // [B, N, H, Lq], contiguous
};

template <class T>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    grad_q_kernel(const __grid_constant__ KernelArgs<T> args) {
  using Acc = Accumulator<T>;
  const LogitArgs<T>& logits = args.gradients.logits;
  const Shape& shape = logits.shape;
  const int lane = lane_of_warp();
  for (int64_t row = first_row(); row < shape.B * shape.N * shape.H * shape.Lq; row += row_step()) {
    const auto [b, n, h, i] = place_of(row, shape.N, shape.H, shape.Lq);
    const auto query = statistics(args.gradients, b, n, h, i);

    LongSum<Acc> sum;
    if (args.gradients.grad_log_sum_exp.data != nullptr) sum.add(-*args.gradients.grad_log_sum_exp.at(b, n, h, i));
    for (int64_t key = 0; key < shape.Lk; key += kLanesOfWarp) {
      const int64_t j = key + lane;
      Acc term = 0;
      if (j < shape.Lk) {
        const bool hidden = is_hidden(logits.biases, b, n, h, j);
        term = weight(logits, query, b, n, h, i, j, hidden) * grad_weight(args.gradients, b, n, h, i, j);
      }
      sum.add(sum_of_warp(term));
    }
    const Acc delta = sum.value();
    if (lane == 0) args.delta[row] = delta;

    for (int64_t column = 0; column < shape.D; column += kColumns) {
      Columns<Acc> grad_q;
      for (int64_t key = 0; key < shape.Lk; key += kLanesOfWarp) {
        const int64_t j = key + lane;
        const bool hidden = j < shape.Lk && is_hidden(logits.biases, b, n, h, j);
        Acc grad_logit = 0;
        if (j < shape.Lk && !hidden) {
          grad_logit =
              weight(logits, query, b, n, h, i, j, false) * (grad_weight(args.gradients, b, n, h, i, j) - delta);
        }
        const unsigned shown = rows_of_block(shape.Lk - key) & ~__ballot_sync(0xffffffffu, hidden);
        grad_q.add_block(logits.k, b, n, h, key, shown, grad_logit, column, shape.D);
      }
      grad_q.write(args.grad_q, b, n, h, i, column, shape.D, [&](Acc value) { return logits.scale * value; });
    }
  }
}

}  // namespace

template <class T>
void run_grad_q(const BackwardArgs<T>& args, Accumulator<T>* delta, Stream stream) {
  const KernelArgs<T> kernel_args{.gradients = gradient_args(args), .grad_q = device_view(args.grad_q), .delta = delta};
  const Shape& shape = kernel_args.gradients.logits.shape;
  launch("evoformer_attention_backward", grad_q_kernel<T>, kernel_args,
         shape.B * shape.N * shape.H * shape.Lq * kLanesOfWarp, stream);
}

template void run_grad_q<float>(const BackwardArgs<float>&, float*, Stream);
template void run_grad_q<double>(const BackwardArgs<double>&, double*, Stream);
template void run_grad_q<bfloat16>(const BackwardArgs<bfloat16>&, float*, Stream);
template void run_grad_q<float16>(const BackwardArgs<float16>&, float*, Stream);

}  // namespace longfold::kernels::cuda::plain
