// Softmax by blocks of 32 keys, a key for each lane; then the columns of v, which lanes share out among them.
#include "longfold/kernels/cuda/plain/columns.cuh"
#include "longfold/kernels/cuda/plain/evoformer_attention.h"
#include "longfold/kernels/cuda/plain/launch.cuh"
#include "longfold/kernels/cuda/plain/logits.cuh"

namespace longfold::kernels::cuda::plain {
namespace {

template <class T>
struct KernelArgs {
  LogitArgs<T> logits;
  DeviceView<const T, 5> v;                      // [B, N, Lk, H, D]
  DeviceView<T, 5> out;                          // [B, N, Lq, H, D]
  DeviceView<Accumulator<T>, 4> log_sum_exp;     // [B, N, H, Lq]
  DeviceView<Accumulator<T>, 4> lse_correction;  // [B, N, H, Lq]
};

template <class T>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    forward_kernel(const __grid_constant__ KernelArgs<T> args) {
  using Acc = Accumulator<T>;
  const Shape& shape = args.logits.shape;
  const bool mean_of_masked = args.logits.mean_of_fully_masked;
  const int lane = lane_of_warp();
  for (int64_t row = first_row(); row < shape.B * shape.N * shape.H * shape.Lq; row += row_step()) {
    const auto [b, n, h, i] = place_of(row, shape.N, shape.H, shape.Lq);
    for (int64_t column = 0; column < shape.D; column += kColumns) {
      // Weights are exp(logit - bound). The bound is finite and starts where fully masked rows end; in all others it
      // becomes the largest logit.
      Acc largest = kNoLogit<Acc>, bound = kFullyMaskedLogit;
      LongSum<Acc> sum;
      Columns<Acc> out;
      for (int64_t key = 0; key < shape.Lk; key += kLanesOfWarp) {
        const int64_t j = key + lane;
        Acc value = kNoLogit<Acc>;
        if (j < shape.Lk) value = logit(args.logits, b, n, h, i, j, is_hidden(args.logits.biases, b, n, h, j));
        largest = larger(largest, largest_of_warp(value));
        const Acc next = larger(bound, largest);
        if (next != bound) {
          const Acc factor = exp(bound - next);
          sum.scale(factor);
          out.scale(factor);
          bound = next;
        }
        const Acc weight = exp(value - bound);
        sum.add(sum_of_warp(weight));
        out.add_block(args.v, b, n, h, key, rows_of_block(shape.Lk - key), weight, column, shape.D);
      }
      const bool masked = largest <= Acc{kFullyMaskedLogit};
      if (masked && mean_of_masked) {
        out = {};
        for (int64_t key = 0; key < shape.Lk; key += kLanesOfWarp) {
          out.add_block(args.v, b, n, h, key, rows_of_block(shape.Lk - key), Acc{1}, column, shape.D);
        }
      }
      const Acc divisor = masked ? static_cast<Acc>(shape.Lk) : sum.value();
      out.write(args.out, b, n, h, i, column, shape.D,
                [&](Acc value) { return masked && !mean_of_masked ? Acc{0} : value / divisor; });
      if (column == 0 && lane == 0) {
        // In double, so that the correction holds what rounding log_sum_exp left out and nothing else.
        const double total = static_cast<double>(sum.sum) + static_cast<double>(sum.rest);
        const Acc lse = masked ? largest : static_cast<Acc>(static_cast<double>(largest) + log(total));
        *args.log_sum_exp.at(b, n, h, i) = lse;
        *args.lse_correction.at(b, n, h, i) =
            masked ? Acc{1} : static_cast<Acc>(exp(static_cast<double>(lse) - static_cast<double>(largest)) / total);
      }
    }
  }
}

}  // namespace

template <class T>
void run_forward(const ForwardArgs<T>& args, Stream stream) {
  const KernelArgs<T> kernel_args{.logits = logit_args<T>(args),
                                  .v = device_view(args.v),
                                  .out = device_view(args.out),
                                  .log_sum_exp = device_view(args.log_sum_exp),
                                  .lse_correction = device_view(args.lse_correction)};
  const Shape& shape = kernel_args.logits.shape;
  launch("evoformer_attention", forward_kernel<T>, kernel_args, shape.B * shape.N * shape.H * shape.Lq * kLanesOfWarp,
         stream);
}

template void run_forward<float>(const ForwardArgs<float>&, Stream);
template void run_forward<double>(const ForwardArgs<double>&, Stream);
template void run_forward<bfloat16>(const ForwardArgs<bfloat16>&, Stream);
template void run_forward<float16>(const ForwardArgs<float16>&, Stream);

}  // namespace longfold::kernels::cuda::plain
