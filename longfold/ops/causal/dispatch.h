// Calling the two ops of causal attention through torch's dispatcher. The schemas are in schema.cpp.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace longfold::ops {

using CausalForwardSignature = std::tuple<at::Tensor, at::Tensor>(const at::Tensor& q, const at::Tensor& k,
                                                                  const at::Tensor& v,
                                                                  const std::optional<at::Tensor>& documents,
                                                                  int64_t window, std::optional<double> scale,
                                                                  int64_t first_query);

using CausalBackwardSignature = std::tuple<at::Tensor, at::Tensor, at::Tensor>(
    const at::Tensor& grad_out, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
    const at::Tensor& log_sum_exp, const std::optional<at::Tensor>& documents, int64_t window,
    std::optional<double> scale, int64_t first_query);

// Plain function declarations: each calls the op at the dispatch keys that are active on this thread.
CausalForwardSignature call_causal_forward;
CausalBackwardSignature call_causal_backward;

}  // namespace longfold::ops
