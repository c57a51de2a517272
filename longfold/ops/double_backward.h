// Second derivatives, and all further ones: the backward op differentiated by a formula made of torch's own ops, which
// torch differentiates again. Unlike the op itself it holds several tensors as large as the logits [B, N, H, Lq, Lk],
// and leaves the order of sums to torch.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "longfold/ops/check_arguments.h"

namespace longfold::ops {

// The gradients that the backward op gave.
struct Gradients {
  at::Tensor q, k, v;
  std::vector<at::Tensor> biases;  // of those that have one
};

// Makes `gradients` functions of grad_out, grad_log_sum_exp, q, k, v and biases, where one of these requires a
// gradient. out and log_sum_exp count as functions of q, k, v and biases, which the formula computes again: nothing
// flows to them.
void make_differentiable(const Gradients& gradients, const at::Tensor& grad_out,
                         const std::optional<at::Tensor>& grad_log_sum_exp, const at::Tensor& q, const at::Tensor& k,
                         const at::Tensor& v, at::TensorList biases, const at::Tensor& log_sum_exp,
                         const Settings& settings, bool heads_first);

}  // namespace longfold::ops
