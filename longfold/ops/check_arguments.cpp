#include "longfold/ops/check_arguments.h"

#include <c10/core/SymIntArrayRef.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <string>

namespace longfold::ops {
namespace {

// Sizes of the logits, and of everything else.
struct Sizes {
  c10::SymInt B, N, Lq, Lk, H, D;
};

// torch passes Python's None on as an undefined tensor.
void check_defined(const at::Tensor& tensor, const char* name) {
  TORCH_CHECK(tensor.defined(), "[evoformer_attention] expected ", name, " to be a tensor, got None");
}

void check_rank(const at::Tensor& tensor, const char* name, const char* shape) {
  TORCH_CHECK(tensor.dim() == 5, "[evoformer_attention] expected ", name, " of shape ", shape, ", got ",
              tensor.sym_sizes());
}

void check_shape(const at::Tensor& tensor, const char* name, const char* letters, c10::SymIntArrayRef expected) {
  TORCH_CHECK(tensor.sym_sizes().equals(expected), "[evoformer_attention] expected ", name, " of shape ", letters,
              " = ", expected, ", got ", tensor.sym_sizes());
}

void check_like_q(const at::Tensor& tensor, const char* name, const at::Tensor& q) {
  TORCH_CHECK(tensor.device() == q.device(), "[evoformer_attention] expected ", name, " on the device of q, ",
              q.device(), ", got ", tensor.device());
  TORCH_CHECK(tensor.scalar_type() == q.scalar_type(), "[evoformer_attention] expected ", name, " of the dtype of q, ",
              q.scalar_type(), ", got ", tensor.scalar_type());
}

Sizes check_qkv(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  check_defined(q, "q");
  check_defined(k, "k");
  check_defined(v, "v");
  const auto dtype = q.scalar_type();
  TORCH_CHECK(dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf || dtype == at::kDouble,
              "[evoformer_attention] expected q of dtype float32, bfloat16, float16 or float64, got ", dtype);
  check_rank(q, "q", "[B, N, Lq, H, D]");
  check_rank(k, "k", "[B, N, Lk, H, D]");
  const auto& s = q.sym_sizes();
  const Sizes sizes{.B = s[0], .N = s[1], .Lq = s[2], .Lk = k.sym_size(2), .H = s[3], .D = s[4]};
  TORCH_CHECK(sizes.Lk >= 1, "[evoformer_attention] expected Lk to be at least 1, got k of shape ", k.sym_sizes());
  TORCH_CHECK(sizes.D >= 1, "[evoformer_attention] expected D to be at least 1, got q of shape ", s);
  const std::array<c10::SymInt, 5> expected{sizes.B, sizes.N, sizes.Lk, sizes.H, sizes.D};
  for (const auto& [tensor, name] : {std::pair(&k, "k"), std::pair(&v, "v")}) {
    check_like_q(*tensor, name, q);
    check_shape(*tensor, name, "[B, N, Lk, H, D]", expected);
  }
  return sizes;
}

void check_bias(const at::Tensor& bias, size_t index, const at::Tensor& q, const Sizes& sizes) {
  TORCH_CHECK(bias.device() == q.device(), "[evoformer_attention] expected biases[", index, "] on the device of q, ",
              q.device(), ", got ", bias.device());
  const auto dtype = bias.scalar_type();
  TORCH_CHECK(
      dtype == at::kFloat || dtype == at::kDouble || dtype == at::kBFloat16 || dtype == at::kHalf || dtype == at::kBool,
      "[evoformer_attention] expected biases[", index, "] of dtype float32, float64, bfloat16, float16 or bool, got ",
      dtype);
  const std::array<c10::SymInt, 5> logits{sizes.B, sizes.N, sizes.H, sizes.Lq, sizes.Lk};
  bool fits = bias.dim() <= 5;
  for (int64_t d = 1; fits && d <= bias.dim(); ++d) {
    const auto size = bias.sym_size(-d);
    fits = size == 1 || size == logits[static_cast<size_t>(5 - d)];
  }
  TORCH_CHECK(fits, "[evoformer_attention] expected biases[", index,
              "] to broadcast to [B, N, H, Lq, Lk] = ", c10::SymIntArrayRef(logits), ", got ", bias.sym_sizes());
  for (int64_t d = 2; dtype == at::kBool && d <= std::min<int64_t>(bias.dim(), 3); ++d) {
    TORCH_CHECK(bias.sym_size(-d) == 1, "[evoformer_attention] expected biases[", index,
                "] of dtype bool to be the same for all heads and queries, [B, N, 1, 1, Lk], got ", bias.sym_sizes());
  }
}

}  // namespace

Settings check_arguments(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, at::TensorList biases,
                         std::optional<double> scale, std::string_view fully_masked) {
  const Sizes sizes = check_qkv(q, k, v);
  for (size_t i = 0; i < biases.size(); ++i) check_bias(biases[i], i, q, sizes);
  TORCH_CHECK(!scale || std::isfinite(*scale), "[evoformer_attention] expected a finite scale, got ", *scale);
  TORCH_CHECK(fully_masked == "zero" || fully_masked == "mean",
              "[evoformer_attention] expected fully_masked to be 'zero' or 'mean', got '", fully_masked, "'");
  return {.scale = scale ? *scale : 1 / std::sqrt(static_cast<double>(sizes.D.guard_int(__FILE__, __LINE__))),
          .fully_masked = fully_masked == "mean" ? kernels::FullyMasked::kMean : kernels::FullyMasked::kZero};
}

Settings check_backward_arguments(const at::Tensor& grad_out, const std::optional<at::Tensor>& grad_log_sum_exp,
                                  const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, at::TensorList biases,
                                  const at::Tensor& out, const at::Tensor& log_sum_exp,
                                  const at::Tensor& lse_correction, std::optional<double> scale,
                                  std::string_view fully_masked, const c10::List<bool>& bias_needs_grad) {
  const Settings settings = check_arguments(q, k, v, biases, scale, fully_masked);
  for (const auto& [tensor, name] : {std::pair(&out, "out"), std::pair(&grad_out, "grad_out")}) {
    check_defined(*tensor, name);
    check_like_q(*tensor, name, q);
    check_shape(*tensor, name, "[B, N, Lq, H, D]", q.sym_sizes());
  }
  const std::array<c10::SymInt, 4> rows{q.sym_size(0), q.sym_size(1), q.sym_size(3), q.sym_size(2)};
  const auto check_statistic = [&](const at::Tensor& tensor, const char* name) {
    check_defined(tensor, name);
    check_shape(tensor, name, "[B, N, H, Lq]", rows);
    TORCH_CHECK(tensor.device() == q.device() && tensor.scalar_type() == accumulator_type(q.scalar_type()),
                "[evoformer_attention] expected ", name, " of dtype ", accumulator_type(q.scalar_type()), " on ",
                q.device(), ", got ", tensor.scalar_type(), " on ", tensor.device());
  };
  check_statistic(log_sum_exp, "log_sum_exp");
  check_statistic(lse_correction, "lse_correction");
  if (grad_log_sum_exp) check_statistic(*grad_log_sum_exp, "grad_log_sum_exp");
  TORCH_CHECK(bias_needs_grad.size() == biases.size(), "[evoformer_attention] expected ", biases.size(),
              " values in bias_needs_grad, got ", bias_needs_grad.size());
  for (size_t i = 0; i < biases.size(); ++i) {
    TORCH_CHECK(!bias_needs_grad[i] || biases[i].scalar_type() != at::kBool, "[evoformer_attention] expected biases[",
                i, "] of a floating dtype where it needs a gradient, got Bool");
  }
  return settings;
}

at::ScalarType accumulator_type(at::ScalarType type) {
  return type == at::kDouble ? at::kDouble : at::kFloat;
}

}  // namespace longfold::ops
