// Calling our two ops through torch's dispatcher, with their C++ signatures. The schemas are in schema.cpp.
#pragma once

#include <ATen/core/List.h>
#include <ATen/core/Tensor.h>

#include <optional>
#include <string_view>
#include <tuple>
#include <vector>

namespace longfold::ops {

using ForwardSignature = std::tuple<at::Tensor, at::Tensor, at::Tensor>(const at::Tensor& q, const at::Tensor& k,
                                                                        const at::Tensor& v, at::TensorList biases,
                                                                        std::optional<double> scale,
                                                                        std::string_view fully_masked,
                                                                        bool heads_first);

using BackwardSignature = std::tuple<at::Tensor, at::Tensor, at::Tensor, std::vector<at::Tensor>>(
    const at::Tensor& grad_out, const std::optional<at::Tensor>& grad_log_sum_exp, const at::Tensor& q,
    const at::Tensor& k, const at::Tensor& v, at::TensorList biases, const at::Tensor& out,
    const at::Tensor& log_sum_exp, const at::Tensor& lse_correction, std::optional<double> scale,
    std::string_view fully_masked, c10::List<bool> bias_needs_grad, bool heads_first);

// Plain function declarations: each calls the op at the dispatch keys that are active on this thread.
ForwardSignature call_forward;
BackwardSignature call_backward;

}  // namespace longfold::ops
