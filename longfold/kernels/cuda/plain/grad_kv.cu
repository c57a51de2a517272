// grad_v, the queries' sum of weights times grad_out; grad_k, that of logit gradients times q; grad_mask, that of logit
// gradients. By blocks of 32 queries, a query for each lane; then the columns, which lanes share out among them.
#include "longfold/kernels/cuda/plain/columns.cuh"
#include "longfold/kernels/cuda/plain/evoformer_attention.h"
#include "longfold/kernels/cuda/plain/launch.cuh"
#include "longfold/kernels/cuda/plain/logits.cuh"

namespace longfold::kernels::cuda::plain {
namespace {

template <class T>
struct KernelArgs {
  GradientArgs<T> gradients;
  DeviceView<T, 5> grad_k;                  // [B, N, Lk, H, D]
  DeviceView<T, 5> grad_v;                  // [B, N, Lk, H, D]
  DeviceView<Accumulator<T>, 4> grad_mask;  // [B, N, H, Lk] or null
  const Accumulator<T>* delta;              // [B, N, H, Lq], contiguous
};

template <class T>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    grad_kv_kernel(const __grid_constant__ KernelArgs<T> args) {
  using Acc = Accumulator<T>;
  const LogitArgs<T>& logits = args.gradients.logits;
  const Shape& shape = logits.shape;
  const int lane = lane_of_warp();
  for (int64_t row = first_row(); row < shape.B * shape.N * shape.H * shape.Lk; row += row_step()) {
    const auto [b, n, h, j] = place_of(row, shape.N, shape.H, shape.Lk);
    const bool hidden = is_hidden(logits.biases, b, n, h, j);
    const Acc* delta = args.delta + ((b * shape.N + n) * shape.H + h) * shape.Lq;
    for (int64_t column = 0; column < shape.D; column += kColumns) {
      Columns<Acc> grad_k, grad_v;
      LongSum<Acc> grad_mask;
      for (int64_t first = 0; first < shape.Lq; first += kLanesOfWarp) {
        const int64_t i = first + lane;
        Acc of_query = 0, grad_logit = 0;
        if (i < shape.Lq) {
          of_query = weight(logits, statistics(args.gradients, b, n, h, i), b, n, h, i, j, hidden);
          if (!hidden) grad_logit = of_query * (grad_weight(args.gradients, b, n, h, i, j) - delta[i]);
        }
        const unsigned queries = rows_of_block(shape.Lq - first);
        grad_v.add_block(args.gradients.grad_out, b, n, h, first, queries, of_query, column, shape.D);
        if (hidden) continue;  // for the whole warp
        grad_k.add_block(logits.q, b, n, h, first, queries, grad_logit, column, shape.D);
        grad_mask.add(sum_of_warp(grad_logit));
      }
      grad_v.write(args.grad_v, b, n, h, j, column, shape.D, [](Acc value) { return value; });
      grad_k.write(args.grad_k, b, n, h, j, column, shape.D, [&](Acc value) { return logits.scale * value; });
      if (args.grad_mask.data != nullptr && column == 0 && lane == 0) {
        *args.grad_mask.at(b, n, h, j) = grad_mask.value();
      }
    }
  }
}

}  // namespace

template <class T>
void run_grad_kv(const BackwardArgs<T>& args, const Accumulator<T>* delta, Stream stream) {
  const KernelArgs<T> kernel_args{.gradients = gradient_args(args),
                                  .grad_k = device_view(args.grad_k),
                                  .grad_v = device_view(args.grad_v),
                                  .grad_mask = device_view(args.grad_mask),
                                  .delta = delta};
  const Shape& shape = kernel_args.gradients.logits.shape;
  launch("evoformer_attention_backward", grad_kv_kernel<T>, kernel_args,
         shape.B * shape.N * shape.H * shape.Lk * kLanesOfWarp, stream);
}

template void run_grad_kv<float>(const BackwardArgs<float>&, const float*, Stream);
template void run_grad_kv<double>(const BackwardArgs<double>&, const double*, Stream);
template void run_grad_kv<bfloat16>(const BackwardArgs<bfloat16>&, const float*, Stream);
template void run_grad_kv<float16>(const BackwardArgs<float16>&, const float*, Stream);

}  // namespace longfold::kernels::cuda::plain
