// What the plain kernels are given, by value: tensors without their sizes, and the sizes once.
#pragma once

#include <array>
#include <stdexcept>
#include <string>

#include "longfold/kernels/cuda/evoformer_attention.h"
#include "longfold/kernels/evoformer/tile_size.h"

namespace longfold::kernels::cuda::plain {

template <class T, int Rank>
struct DeviceView {
  T* data;
  int64_t strides[Rank];

  template <class... Index>
  [[nodiscard]] __device__ T* at(Index... index) const {
    static_assert(sizeof...(Index) <= Rank, "more indices than dimensions");
    int64_t offset = 0;
    int dim = 0;
    ((offset += static_cast<int64_t>(index) * strides[dim++]), ...);
    return data + offset;
  }
};

template <class T, int Rank>
DeviceView<T, Rank> device_view(const TensorView<T, Rank>& view) {
  DeviceView<T, Rank> result{view.data, {}};
  for (int dim = 0; dim < Rank; ++dim) result.strides[dim] = view.strides[static_cast<size_t>(dim)];
  return result;
}

struct DeviceBias {
  const void* data;
  DType dtype;
  int64_t strides[5];  // of [B, N, H, Lq, Lk]

  [[nodiscard]] __device__ int64_t offset(int64_t b, int64_t n, int64_t h, int64_t i, int64_t j) const {
    return b * strides[0] + n * strides[1] + h * strides[2] + i * strides[3] + j * strides[4];
  }
};

struct DeviceBiases {
  DeviceBias biases[kMostBiases];
  int count;
};

inline DeviceBiases device_biases(std::span<const BiasView> biases) {
  if (biases.size() > kMostBiases) {
    throw std::invalid_argument("[evoformer_attention] expected at most " + std::to_string(kMostBiases) +
                                " biases on CUDA, got " + std::to_string(biases.size()) +
                                "; add up those of the same shape");
  }
  DeviceBiases result{};
  for (const BiasView& bias : biases) {
    DeviceBias& to = result.biases[result.count++];
    to.data = bias.data;
    to.dtype = bias.dtype;
    for (size_t dim = 0; dim < 5; ++dim) to.strides[dim] = bias.strides[dim];
  }
  return result;
}

// What logits are made of.
template <class T>
struct LogitArgs {
  Shape shape;
  DeviceView<const T, 5> q;  // [B, N, Lq, H, D]
  DeviceView<const T, 5> k;  // [B, N, Lk, H, D]
  DeviceBiases biases;
  Accumulator<T> scale;
  bool mean_of_fully_masked;
};

// And their gradients.
template <class T>
struct GradientArgs {
  LogitArgs<T> logits;
  DeviceView<const T, 5> v;                              // [B, N, Lk, H, D]
  DeviceView<const T, 5> grad_out;                       // [B, N, Lq, H, D]
  DeviceView<const Accumulator<T>, 4> log_sum_exp;       // [B, N, H, Lq]
  DeviceView<const Accumulator<T>, 4> lse_correction;    // [B, N, H, Lq]
  DeviceView<const Accumulator<T>, 4> grad_log_sum_exp;  // [B, N, H, Lq] or null
};

// Of ForwardArgs or BackwardArgs.
template <class T, class Args>
LogitArgs<T> logit_args(const Args& args) {
  const auto& q = args.q.sizes;
  return {.shape = {.B = q[0], .N = q[1], .Lq = q[2], .Lk = args.k.sizes[2], .H = q[3], .D = q[4]},
          .q = device_view(args.q),
          .k = device_view(args.k),
          .biases = device_biases(args.biases),
          .scale = static_cast<Accumulator<T>>(args.scale),
          .mean_of_fully_masked = args.fully_masked == FullyMasked::kMean};
}

template <class T>
GradientArgs<T> gradient_args(const BackwardArgs<T>& args) {
  return {.logits = logit_args<T>(args),
          .v = device_view(args.v),
          .grad_out = device_view(args.grad_out),
          .log_sum_exp = device_view(args.log_sum_exp),
          .lse_correction = device_view(args.lse_correction),
          .grad_log_sum_exp = device_view(args.grad_log_sum_exp)};
}

}  // namespace longfold::kernels::cuda::plain
