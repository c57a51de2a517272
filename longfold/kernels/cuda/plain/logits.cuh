// One logit, its weight and its gradient. All kernels take them from here, so that forward and backward agree on bits.
#pragma once

#include <limits>

#include "longfold/kernels/cuda/plain/arguments.cuh"
#include "longfold/kernels/cuda/plain/element.cuh"

namespace longfold::kernels::cuda::plain {

// Of no key at all: its weight is zero.
template <class Acc>
inline constexpr Acc kNoLogit = -std::numeric_limits<Acc>::infinity();

// The sum over d of a[d] b[d], in order.
template <class T>
__device__ Accumulator<T> dot(const T* a, int64_t stride_a, const T* b, int64_t stride_b, int64_t D) {
  Accumulator<T> sum = 0;
  for (int64_t d = 0; d < D; ++d) sum = fma(load(a[d * stride_a]), load(b[d * stride_b]), sum);
  return sum;
}

// Zero for one of kBool, which adds nothing.
template <class Acc>
__device__ Acc bias_element(const DeviceBias& bias, int64_t offset) {
  switch (bias.dtype) {
    case DType::kFloat32:
      return static_cast<Acc>(static_cast<const float*>(bias.data)[offset]);
    case DType::kFloat64:
      return static_cast<Acc>(static_cast<const double*>(bias.data)[offset]);
    case DType::kBFloat16:
      return static_cast<Acc>(load(static_cast<const bfloat16*>(bias.data)[offset]));
    case DType::kFloat16:
      return static_cast<Acc>(load(static_cast<const float16*>(bias.data)[offset]));
    case DType::kBool:
      break;
  }
  return 0;
}

// Whether a bias of kBool hides key j from the queries of a row.
__device__ inline bool is_hidden(const DeviceBiases& all, int64_t b, int64_t n, int64_t h, int64_t j) {
  for (int index = 0; index < all.count; ++index) {
    const DeviceBias& bias = all.biases[index];
    if (bias.dtype == DType::kBool && static_cast<const uint8_t*>(bias.data)[bias.offset(b, n, h, 0, j)] == 0) {
      return true;
    }
  }
  return false;
}

// scale * q . k + biases, or kHiddenLogit. Products add up from zero and biases come after them, so that large biases
// cost no digits.
template <class T>
__device__ Accumulator<T> logit(const LogitArgs<T>& args, int64_t b, int64_t n, int64_t h, int64_t i, int64_t j,
                                bool hidden) {
  using Acc = Accumulator<T>;
  if (hidden) return Acc{kHiddenLogit};
  Acc sum = args.scale *
            dot(args.q.at(b, n, i, h), args.q.strides[4], args.k.at(b, n, j, h), args.k.strides[4], args.shape.D);
  for (int index = 0; index < args.biases.count; ++index) {
    const DeviceBias& bias = args.biases.biases[index];
    sum += bias_element<Acc>(bias, bias.offset(b, n, h, i, j));
  }
  return sum;
}

// What a query's weights are made of.
template <class Acc>
struct Statistics {
  Acc log_sum_exp;
  Acc correction;

  [[nodiscard]] __device__ bool fully_masked() const { return log_sum_exp <= Acc{kFullyMaskedLogit}; }
};

template <class T>
__device__ Statistics<Accumulator<T>> statistics(const GradientArgs<T>& args, int64_t b, int64_t n, int64_t h,
                                                 int64_t i) {
  return {*args.log_sum_exp.at(b, n, h, i), *args.lse_correction.at(b, n, h, i)};
}

template <class T>
__device__ Accumulator<T> weight(const LogitArgs<T>& args, const Statistics<Accumulator<T>>& row, int64_t b, int64_t n,
                                 int64_t h, int64_t i, int64_t j, bool hidden) {
  using Acc = Accumulator<T>;
  if (row.fully_masked()) return args.mean_of_fully_masked ? Acc{1} / static_cast<Acc>(args.shape.Lk) : Acc{0};
  return exp(logit(args, b, n, h, i, j, hidden) - row.log_sum_exp) * row.correction;
}

// grad_out . v, the gradient of that weight.
template <class T>
__device__ Accumulator<T> grad_weight(const GradientArgs<T>& args, int64_t b, int64_t n, int64_t h, int64_t i,
                                      int64_t j) {
  return dot(args.grad_out.at(b, n, i, h), args.grad_out.strides[4], args.v.at(b, n, j, h), args.v.strides[4],
             args.logits.shape.D);
}

}  // namespace longfold::kernels::cuda::plain
