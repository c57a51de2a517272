// Gradients of biases. Each is a sum of the logit gradients [B, N, H, Lq, Lk] over what the bias does not
// vary over; the kernels sum as they go, so that no more is held than the gradients need.
#pragma once

#include <ATen/core/List.h>
#include <ATen/core/Tensor.h>

#include <vector>

#include "longfold/kernels/evoformer_attention.h"

namespace longfold::ops {

// What the kernels are to sum, all of the type that sums are kept in; undefined or empty where no bias asks.
struct LogitGradients {
  at::Tensor pair;                 // [B or 1, H or 1, Lq, Lk], uninitialised: for biases that are the same for all rows
  at::Tensor mask;                 // [B, N, H, Lk], uninitialised: for biases that are the same for all queries
  std::vector<at::Tensor> logits;  // [B or 1, N, H or 1, Lq, Lk], zeros: one for each shape of the other biases
};

[[nodiscard]] LogitGradients allocate_logit_gradients(const at::Tensor& q, const at::Tensor& k, at::TensorList biases,
                                                      const c10::List<bool>& bias_needs_grad);

// Of the backward op; grad_log_sum_exp may be undefined.
struct BackwardInputs {
  at::Tensor q, v, grad_out, log_sum_exp, grad_log_sum_exp;
};

// The gradients that bias_needs_grad asks for, in order, from the sums; no two share memory. A bias that is the same
// for all keys shifts a row's logits: only log_sum_exp notices, so its gradient is a sum of grad_log_sum_exp, less the
// fully masked rows of kZero, and less what a fully masked row of kMean owes to keys that a bias of bools hides.
[[nodiscard]] std::vector<at::Tensor> bias_gradients(const LogitGradients& sums, const BackwardInputs& inputs,
                                                     at::TensorList biases, const c10::List<bool>& bias_needs_grad,
                                                     kernels::FullyMasked fully_masked);

}  // namespace longfold::ops
