// Matrix products of the model by one of two engines that libtorch brings. They differ in the last bits, and by up to
// twice in speed: MKL, which torch takes, is slow in fp32 on CPUs that are not Intel's.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <string_view>

namespace longfold::model {

enum class LinearEngine : uint8_t { kTorch, kOnednn };

// "torch", "onednn", or "auto": onednn on AMD's CPUs, else torch. Anything else throws base::UserError.
[[nodiscard]] LinearEngine linear_engine(std::string_view name);
[[nodiscard]] std::string to_string(LinearEngine engine);

// input [..., in] times weight [out, in] transposed, plus bias [out] unless it is undefined. Differentiable once with
// onednn, which is for fp32 on the CPU; all other tensors go torch's way.
[[nodiscard]] at::Tensor linear(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                                LinearEngine engine);

}  // namespace longfold::model
