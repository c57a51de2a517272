#include <cmath>

#include "longfold/kernels/cuda/evoformer_attention.h"
#include "longfold/kernels/cuda/plain/element.cuh"
#include "longfold/kernels/cuda/plain/launch.cuh"
#include "longfold/kernels/cuda/training.h"
#include "longfold/kernels/cuda/training/pack.cuh"

namespace longfold::kernels::cuda {
namespace {

constexpr int kElements = 4;  // of a thread at a time: 16 bytes of fp32

struct Rates {
  float gradient_factor, beta1, beta2, epsilon;
  float of_new, of_new_square;  // 1 - beta1, 1 - beta2
  float decay;                  // learning_rate * weight_decay
  float step;                   // learning_rate / correction1
  float root_correction;        // sqrt(correction2)
};

template <class T>
struct KernelArgs {
  int64_t count;
  float *parameter, *mean, *mean_square;
  const T* gradient;
  bfloat16* as_bfloat16;  // one of these two, or none
  float16* as_float16;
  Rates rates;
};

__device__ inline void update(float& parameter, float& mean, float& mean_square, float gradient, const Rates& rates) {
  gradient *= rates.gradient_factor;
  mean = rates.beta1 * mean + rates.of_new * gradient;
  mean_square = rates.beta2 * mean_square + rates.of_new_square * gradient * gradient;
  const float size = sqrtf(mean_square) / rates.root_correction + rates.epsilon;
  parameter -= rates.decay * parameter;
  parameter -= rates.step * mean / size;
}

template <class R>
__device__ inline Pack<R, kElements> rounded(const Pack<float, kElements>& from) {
  Pack<R, kElements> to;
#pragma unroll
  for (int j = 0; j < kElements; ++j) plain::store(to.values[j], from.values[j]);
  return to;
}

template <class T>
__global__ void __launch_bounds__(plain::kThreads) adamw_kernel(const __grid_constant__ KernelArgs<T> args) {
  const int64_t num_packs = args.count / kElements;
  auto* parameters = reinterpret_cast<Pack<float, kElements>*>(args.parameter);
  auto* means = reinterpret_cast<Pack<float, kElements>*>(args.mean);
  auto* mean_squares = reinterpret_cast<Pack<float, kElements>*>(args.mean_square);
  const auto* gradients = reinterpret_cast<const Pack<T, kElements>*>(args.gradient);
  for (int64_t i = plain::first_element(); i < num_packs; i += plain::element_step()) {
    Pack<float, kElements> parameter = parameters[i], mean = means[i], mean_square = mean_squares[i];
    const Pack<T, kElements> gradient = gradients[i];
#pragma unroll
    for (int j = 0; j < kElements; ++j) {
      update(parameter.values[j], mean.values[j], mean_square.values[j], plain::load(gradient.values[j]), args.rates);
    }
    parameters[i] = parameter;
    means[i] = mean;
    mean_squares[i] = mean_square;
    if (args.as_bfloat16 != nullptr)
      reinterpret_cast<Pack<bfloat16, kElements>*>(args.as_bfloat16)[i] = rounded<bfloat16>(parameter);
    if (args.as_float16 != nullptr)
      reinterpret_cast<Pack<float16, kElements>*>(args.as_float16)[i] = rounded<float16>(parameter);
  }
  for (int64_t i = num_packs * kElements + plain::first_element(); i < args.count; i += plain::element_step()) {
    update(args.parameter[i], args.mean[i], args.mean_square[i], plain::load(args.gradient[i]), args.rates);
    if (args.as_bfloat16 != nullptr) plain::store(args.as_bfloat16[i], args.parameter[i]);
    if (args.as_float16 != nullptr) plain::store(args.as_float16[i], args.parameter[i]);
  }
}

}  // namespace

bool has_training_kernels() {
  static const bool has_them = [] {
    cudaFuncAttributes attributes;
    const bool found = cudaFuncGetAttributes(&attributes, adamw_kernel<float>) == cudaSuccess;
    if (!found) (void)cudaGetLastError();  // no later check may find this one
    return found;
  }();
  return has_them;
}

template <class T>
void adamw(const AdamWArgs<T>& args, Stream stream) {
  if (args.count == 0) return;
  const KernelArgs<T> kernel_args{
      .count = args.count,
      .parameter = args.parameter,
      .mean = args.mean,
      .mean_square = args.mean_square,
      .gradient = args.gradient,
      .as_bfloat16 = args.rounded_type == DType::kBFloat16 ? static_cast<bfloat16*>(args.rounded) : nullptr,
      .as_float16 = args.rounded_type == DType::kFloat16 ? static_cast<float16*>(args.rounded) : nullptr,
      .rates = {.gradient_factor = args.gradient_factor,
                .beta1 = args.beta1,
                .beta2 = args.beta2,
                .epsilon = args.epsilon,
                .of_new = args.of_new,
                .of_new_square = args.of_new_square,
                .decay = args.learning_rate * args.weight_decay,
                .step = args.learning_rate / args.correction1,
                .root_correction = std::sqrt(args.correction2)}};
  plain::launch("adamw", adamw_kernel<T>, kernel_args, (args.count + kElements - 1) / kElements, stream);
}

template void adamw<float>(const AdamWArgs<float>&, Stream);
template void adamw<bfloat16>(const AdamWArgs<bfloat16>&, Stream);
template void adamw<float16>(const AdamWArgs<float16>&, Stream);

}  // namespace longfold::kernels::cuda
