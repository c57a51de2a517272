// Tensors as kernels see them, whatever the device.
#pragma once

#include <ATen/core/List.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "longfold/kernels/evoformer_attention.h"

namespace longfold::ops {

using kernels::Accumulator;
using kernels::BiasView;
using kernels::TensorView;

// Calls function with a value of the element type that kernels use for q.
template <class Function>
auto with_element_type(at::ScalarType type, Function&& function) {
  if (type == at::kDouble) return function(double{});
  if (type == at::kBFloat16) return function(kernels::bfloat16{});
  if (type == at::kHalf) return function(kernels::float16{});
  TORCH_INTERNAL_ASSERT(type == at::kFloat, "check_arguments lets nothing else through");
  return function(float{});
}

// An undefined tensor gives a null view: not there, or not wanted.
template <class T, int Rank>
TensorView<T, Rank> view(const at::Tensor& tensor) {
  TensorView<T, Rank> result;
  if (!tensor.defined()) return result;
  TORCH_INTERNAL_ASSERT(tensor.dim() == Rank);
  if constexpr (std::is_const_v<T>) {
    result.data = static_cast<T*>(tensor.const_data_ptr());
  } else {
    result.data = static_cast<T*>(tensor.mutable_data_ptr());
  }
  std::copy_n(tensor.sizes().begin(), Rank, result.sizes.begin());
  std::copy_n(tensor.strides().begin(), Rank, result.strides.begin());
  return result;
}

inline kernels::DType bias_type(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return kernels::DType::kFloat32;
    case at::kDouble:
      return kernels::DType::kFloat64;
    case at::kBFloat16:
      return kernels::DType::kBFloat16;
    case at::kBool:
      return kernels::DType::kBool;
    default:
      TORCH_INTERNAL_ASSERT(type == at::kHalf, "check_arguments lets nothing else through");
      return kernels::DType::kFloat16;
  }
}

// Dimensions of size 1, and those that are missing on the left, get stride 0: there the bias does not vary.
inline std::vector<BiasView> bias_views(at::TensorList biases) {
  std::vector<BiasView> views;
  for (const at::Tensor& bias : biases) {
    BiasView result{.data = bias.const_data_ptr(), .dtype = bias_type(bias.scalar_type())};
    for (int64_t d = 1; d <= bias.dim(); ++d) {
      result.strides[static_cast<size_t>(5 - d)] = bias.size(-d) == 1 ? 0 : bias.stride(-d);
    }
    views.push_back(result);
  }
  return views;
}

inline at::Tensor contiguous_like(const at::Tensor& tensor) {
  return at::empty(tensor.sizes(), tensor.options(), at::MemoryFormat::Contiguous);
}

// Of a call without queries.
inline std::tuple<at::Tensor, at::Tensor, at::Tensor, std::vector<at::Tensor>> zero_gradients(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, at::TensorList biases,
    const c10::List<bool>& bias_needs_grad) {
  const auto zeros = [](const at::Tensor& like) { return at::zeros(like.sizes(), like.options()); };
  std::vector<at::Tensor> grad_biases;
  for (size_t i = 0; i < biases.size(); ++i) {
    if (bias_needs_grad[i]) grad_biases.push_back(zeros(biases[i]));
  }
  return {zeros(q), zeros(k), zeros(v), std::move(grad_biases)};
}

}  // namespace longfold::ops
