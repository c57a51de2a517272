// The only validation of the arguments of causal attention. Every message is one line: [causal_attention] expected ...,
// got ... Sizes are read symbolically, so the same checks serve the meta kernels.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

namespace longfold::ops {

// All but what the documents say. Returns the scale.
double check_causal_arguments(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                              const std::optional<at::Tensor>& documents, int64_t window, std::optional<double> scale,
                              int64_t first_query);
double check_causal_backward_arguments(const at::Tensor& grad_out, const at::Tensor& q, const at::Tensor& k,
                                       const at::Tensor& v, const at::Tensor& out, const at::Tensor& log_sum_exp,
                                       const std::optional<at::Tensor>& documents, int64_t window,
                                       std::optional<double> scale, int64_t first_query);

// Where documents begin, then B * S; each row is one where nothing is said.
[[nodiscard]] std::vector<int64_t> checked_documents(const std::optional<at::Tensor>& documents, int64_t B, int64_t S);

}  // namespace longfold::ops
