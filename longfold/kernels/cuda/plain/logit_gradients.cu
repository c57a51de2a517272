// grad_pair and grad_logits: the gradient of each logit, summed over what the bias does not vary over (rows, and where
// it is shared batches and heads), in their order. A thread for each element, all of the sum in its registers.
#include "longfold/kernels/cuda/plain/evoformer_attention.h"
#include "longfold/kernels/cuda/plain/launch.cuh"
#include "longfold/kernels/cuda/plain/logits.cuh"
#include "longfold/kernels/cuda/plain/long_sum.cuh"

namespace longfold::kernels::cuda::plain {
namespace {

template <class T>
struct KernelArgs {
  GradientArgs<T> gradients;
  DeviceView<Accumulator<T>, 5> grad;  // [B or 1, N or 1, H or 1, Lq, Lk]
  DeviceView<Accumulator<T>, 5>
      rest;                     // the same, or null: what the roundings of grad leave out, added to what is there
  int64_t B, N, H;              // sizes of grad
  bool adds;                    // to what grad holds already
  const Accumulator<T>* delta;  // [B, N, H, Lq] of the logits, contiguous
};

template <class T>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    logit_gradients_kernel(const __grid_constant__ KernelArgs<T> args) {
  using Acc = Accumulator<T>;
  const LogitArgs<T>& logits = args.gradients.logits;
  const Shape& shape = logits.shape;
  const int64_t num_elements = args.B * args.N * args.H * shape.Lq * shape.Lk;
  for (int64_t element = first_element(); element < num_elements; element += element_step()) {
    const int64_t j = element % shape.Lk;
    const auto [b, n, h, i] = place_of(element / shape.Lk, args.N, args.H, shape.Lq);
    LongSum<Acc> sum;
    if (args.adds) sum.sum = *args.grad.at(b, n, h, i, j);
    // One of each where the gradient varies, all where it is the sum.
    const int64_t end_b = args.B == 1 ? shape.B : b + 1;
    const int64_t end_n = args.N == 1 ? shape.N : n + 1;
    const int64_t end_h = args.H == 1 ? shape.H : h + 1;
    for (int64_t of_b = b; of_b < end_b; ++of_b) {
      for (int64_t of_h = h; of_h < end_h; ++of_h) {
        for (int64_t of_n = n; of_n < end_n; ++of_n) {
          if (is_hidden(logits.biases, of_b, of_n, of_h, j)) continue;
          const auto query = statistics(args.gradients, of_b, of_n, of_h, i);
          const Acc delta = args.delta[((of_b * shape.N + of_n) * shape.H + of_h) * shape.Lq + i];
          sum.add(weight(logits, query, of_b, of_n, of_h, i, j, false) *
                  (grad_weight(args.gradients, of_b, of_n, of_h, i, j) - delta));
        }
      }
    }
    if (args.rest.data != nullptr) {
      *args.grad.at(b, n, h, i, j) = sum.sum;
      *args.rest.at(b, n, h, i, j) += sum.rest;
    } else {
      *args.grad.at(b, n, h, i, j) = sum.value();
    }
  }
}

// [B, H, Lq, Lk] as [B, 1, H, Lq, Lk].
template <class Acc>
DeviceView<Acc, 5> with_rows(const TensorView<Acc, 4>& view) {
  return {view.data, {view.strides[0], 0, view.strides[1], view.strides[2], view.strides[3]}};
}

template <class T>
void run(const KernelArgs<T>& args, Stream stream) {
  const Shape& shape = args.gradients.logits.shape;
  launch("evoformer_attention_backward", logit_gradients_kernel<T>, args,
         args.B * args.N * args.H * shape.Lq * shape.Lk, stream);
}

}  // namespace

template <class T>
void run_grad_pair(const BackwardArgs<T>& args, const Accumulator<T>* delta, Stream stream) {
  run(KernelArgs<T>{.gradients = gradient_args(args),
                    .grad = with_rows(args.grad_pair),
                    .rest = with_rows(args.grad_pair_rest),
                    .B = args.grad_pair.sizes[0],
                    .N = 1,
                    .H = args.grad_pair.sizes[1],
                    .adds = args.add_to_grad_pair,
                    .delta = delta},
      stream);
}

template <class T>
void run_grad_logits(const BackwardArgs<T>& args, const Accumulator<T>* delta, Stream stream) {
  run(KernelArgs<T>{.gradients = gradient_args(args),
                    .grad = device_view(args.grad_logits),
                    .rest = device_view(args.grad_logits_rest),
                    .B = args.grad_logits.sizes[0],
                    .N = args.grad_logits.sizes[1],
                    .H = args.grad_logits.sizes[2],
                    .adds = true,
                    .delta = delta},
      stream);
}

#define LONGFOLD_INSTANTIATE(T)                                                          \
  template void run_grad_pair<T>(const BackwardArgs<T>&, const Accumulator<T>*, Stream); \
  template void run_grad_logits<T>(const BackwardArgs<T>&, const Accumulator<T>*, Stream);
LONGFOLD_INSTANTIATE(float)
LONGFOLD_INSTANTIATE(double)
LONGFOLD_INSTANTIATE(bfloat16)
LONGFOLD_INSTANTIATE(float16)
#undef LONGFOLD_INSTANTIATE

}  // namespace longfold::kernels::cuda::plain
