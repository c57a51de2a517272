#include "longfold/model/dropout.h"

#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>

namespace longfold::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// SplitMix64 (Steele et al. 2014): of a counter, bits that look random.
uint64_t mix(uint64_t z) {
  z += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// Which elements of which rows x is: its element i of row b is that of first_row + b, first_element + i.
struct Place {
  int64_t first_row, first_element;
};

// An element of a row is kept if the hash of (key, row, element) is not below the probability.
at::Tensor drop(const at::Tensor& x, double probability, uint64_t key, Place place) {
  if (x.is_meta()) return at::empty_like(x.contiguous());
  TORCH_CHECK(x.is_cpu(), "[dropout] expected a tensor on the CPU, got ", x.device());
  const at::Tensor from = x.contiguous(), to = at::empty_like(from);
  const int64_t row_size = from.size(0) > 0 ? from.numel() / from.size(0) : 0;
  const auto threshold = static_cast<uint64_t>(std::ldexp(probability, 63)) * 2;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, x.scalar_type(), "dropout", [&] {
    using opmath_t = at::opmath_type<scalar_t>;
    const auto* in = from.const_data_ptr<scalar_t>();
    auto* out = to.mutable_data_ptr<scalar_t>();
    const auto scale = static_cast<opmath_t>(1 / (1 - probability));
    at::parallel_for(0, from.numel(), 1 << 14, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end;) {
        const int64_t row = i / row_size, end_of_row = std::min(end, (row + 1) * row_size);
        const uint64_t row_key = mix(key + static_cast<uint64_t>(place.first_row + row));
        for (; i < end_of_row; ++i) {
          const auto element = static_cast<uint64_t>(place.first_element + i - row * row_size);
          const bool kept = mix(row_key + element) >= threshold;
          out[i] = kept ? static_cast<scalar_t>(static_cast<opmath_t>(in[i]) * scale) : scalar_t(0);
        }
      }
    });
  });
  return to;
}

class DropFunction : public torch::autograd::Function<DropFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, double probability, int64_t key,
                            int64_t first_row, int64_t first_element) {
    context->saved_data["probability"] = probability;
    context->saved_data["key"] = key;
    context->saved_data["first_row"] = first_row;
    context->saved_data["first_element"] = first_element;
    return drop(x, probability, static_cast<uint64_t>(key), {first_row, first_element});
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    auto& saved = context->saved_data;
    return {drop(grads[0], saved["probability"].toDouble(), static_cast<uint64_t>(saved["key"].toInt()),
                 {saved["first_row"].toInt(), saved["first_element"].toInt()}),
            {},
            {},
            {},
            {}};
  }
};

}  // namespace

uint64_t dropout_key(int64_t seed, int64_t step) {
  return mix(mix(static_cast<uint64_t>(seed)) + static_cast<uint64_t>(step));
}

Dropout Dropout::of_layer(int64_t layer) const {
  Dropout result = *this;
  result.key_.step = mix(key_.step + static_cast<uint64_t>(layer));
  return result;
}

Dropout Dropout::from_token(int64_t begin) const {
  Dropout result = *this;
  result.first_token_ += begin;
  return result;
}

at::Tensor Dropout::operator()(const at::Tensor& x, Place place) const {
  if (probability_ == 0) return x;
  const uint64_t key = mix(key_.step ^ (uint64_t{1} << 63)) + (static_cast<uint64_t>(place) << 48);
  return DropFunction::apply(x, probability_, static_cast<int64_t>(key), key_.first_row, first_token_ * x.size(-1));
}

}  // namespace longfold::model
