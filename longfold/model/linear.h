// Matrix products of the model by one of two engines that libtorch brings. They differ in the last bits, and by up to
// twice in speed: MKL, which torch takes, is slow in fp32 on CPUs that are not Intel's.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <string_view>

namespace longfold::model {

enum class LinearEngine : uint8_t { kTorch, kOnednn };

// "torch", "onednn", or "auto": onednn for 16-bit types and on AMD's CPUs, else torch. Anything else throws
// base::UserError.
[[nodiscard]] LinearEngine linear_engine(std::string_view name, at::ScalarType dtype = at::kFloat);
[[nodiscard]] std::string to_string(LinearEngine engine);

// input [..., in] times weight [out, in] transposed, plus bias [out] unless it is undefined. Differentiable once with
// onednn, which is for fp32, bf16 and fp16 on the CPU; all other tensors go torch's way. Where the CPU has no products
// of bf16, and for fp16, onednn multiplies fp32 copies and rounds the result once, as such products do.
[[nodiscard]] at::Tensor linear(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                                LinearEngine engine);

}  // namespace longfold::model
