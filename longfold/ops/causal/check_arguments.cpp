#include "longfold/ops/causal/check_arguments.h"

#include <c10/core/SymIntArrayRef.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>

#include "longfold/ops/check_arguments.h"

namespace longfold::ops {
namespace {

void check_like_q(const at::Tensor& tensor, const char* name, const at::Tensor& q) {
  TORCH_CHECK(tensor.device() == q.device(), "[causal_attention] expected ", name, " on the device of q, ", q.device(),
              ", got ", tensor.device());
  TORCH_CHECK(tensor.scalar_type() == q.scalar_type(), "[causal_attention] expected ", name, " of the dtype of q, ",
              q.scalar_type(), ", got ", tensor.scalar_type());
}

void check_shape(const at::Tensor& tensor, const char* name, const char* letters, c10::SymIntArrayRef expected) {
  TORCH_CHECK(tensor.sym_sizes().equals(expected), "[causal_attention] expected ", name, " of shape ", letters, " = ",
              expected, ", got ", tensor.sym_sizes());
}

void check_rectangle(const at::Tensor& q, const at::Tensor& k, bool is_cut, int64_t first_query) {
  TORCH_CHECK(first_query >= 0, "[causal_attention] expected first_query to be at least 0, got ", first_query);
  const c10::SymInt queries = q.sym_size(1), keys = k.sym_size(1);
  if (first_query == 0 && queries == keys) return;
  TORCH_CHECK(!is_cut,
              "[causal_attention] expected documents and a window only where queries are the tokens of the keys, ",
              "got ", queries, " queries, ", keys, " keys and first_query ", first_query,
              ": leave both out, one sequence in a row");
  TORCH_CHECK(keys >= 1 || queries == 0, "[causal_attention] expected Sk to be at least 1, got k of shape ",
              k.sym_sizes(), " for ", queries, " queries");
}

}  // namespace

double check_causal_arguments(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                              const std::optional<at::Tensor>& documents, int64_t window, std::optional<double> scale,
                              int64_t first_query) {
  for (const auto& [tensor, name] : {std::pair(&q, "q"), std::pair(&k, "k"), std::pair(&v, "v")}) {
    TORCH_CHECK(tensor->defined(), "[causal_attention] expected ", name, " to be a tensor, got None");
    TORCH_CHECK(tensor->dim() == 4, "[causal_attention] expected ", name, " of shape [B, ",
                name[0] == 'q' ? "Sq, H" : "Sk, KV heads", ", D], got ", tensor->sym_sizes());
  }
  const auto dtype = q.scalar_type();
  TORCH_CHECK(dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf || dtype == at::kDouble,
              "[causal_attention] expected q of dtype float32, bfloat16, float16 or float64, got ", dtype);
  const auto& s = q.sym_sizes();
  TORCH_CHECK(s[3] >= 1, "[causal_attention] expected D to be at least 1, got q of shape ", s);
  const c10::SymInt kv_heads = k.sym_size(2);
  TORCH_CHECK(kv_heads >= 1 && s[2] >= 1 && s[2] % kv_heads == 0,
              "[causal_attention] expected a number of heads of q that those of k divide, got ", s[2], " and ",
              kv_heads);
  const std::array<c10::SymInt, 4> expected{s[0], k.sym_size(1), kv_heads, s[3]};
  for (const auto& [tensor, name] : {std::pair(&k, "k"), std::pair(&v, "v")}) {
    check_like_q(*tensor, name, q);
    check_shape(*tensor, name, "[B, Sk, KV heads, D]", expected);
  }
  TORCH_CHECK(window >= 0, "[causal_attention] expected a window of at least 1, or 0 for none, got ", window);
  TORCH_CHECK(!scale || std::isfinite(*scale), "[causal_attention] expected a finite scale, got ", *scale);
  if (documents) {
    TORCH_CHECK(documents->dim() == 1 && documents->scalar_type() == at::kLong,
                "[causal_attention] expected documents as int64 [documents + 1], got ", documents->scalar_type(), " ",
                documents->sym_sizes());
  }
  check_rectangle(q, k, documents.has_value() || window > 0, first_query);
  return scale ? *scale : 1 / std::sqrt(static_cast<double>(s[3].guard_int(__FILE__, __LINE__)));
}

double check_causal_backward_arguments(const at::Tensor& grad_out, const at::Tensor& q, const at::Tensor& k,
                                       const at::Tensor& v, const at::Tensor& out, const at::Tensor& log_sum_exp,
                                       const std::optional<at::Tensor>& documents, int64_t window,
                                       std::optional<double> scale, int64_t first_query) {
  const double factor = check_causal_arguments(q, k, v, documents, window, scale, first_query);
  for (const auto& [tensor, name] : {std::pair(&grad_out, "grad_out"), std::pair(&out, "out")}) {
    check_like_q(*tensor, name, q);
    check_shape(*tensor, name, "[B, Sq, H, D]", q.sym_sizes());
  }
  const std::array<c10::SymInt, 3> expected{q.sym_size(0), q.sym_size(2), q.sym_size(1)};
  check_shape(log_sum_exp, "log_sum_exp", "[B, H, Sq]", expected);
  TORCH_CHECK(log_sum_exp.device() == q.device() && log_sum_exp.scalar_type() == accumulator_type(q.scalar_type()),
              "[causal_attention] expected log_sum_exp of dtype ", accumulator_type(q.scalar_type()), " on ",
              q.device(), ", got ", log_sum_exp.scalar_type(), " on ", log_sum_exp.device());
  return factor;
}

std::vector<int64_t> checked_documents(const std::optional<at::Tensor>& documents, int64_t B, int64_t S) {
  std::vector<int64_t> starts;
  if (!documents) {
    for (int64_t b = 0; b <= B; ++b) starts.push_back(b * S);
    return starts;
  }
  TORCH_CHECK(documents->is_cpu(), "[causal_attention] expected documents on the CPU, got ", documents->device());
  const at::Tensor values = documents->contiguous();
  starts.assign(values.const_data_ptr<int64_t>(), values.const_data_ptr<int64_t>() + values.numel());
  TORCH_CHECK(
      !starts.empty() && starts.front() == 0 && starts.back() == B * S,
      "[causal_attention] expected documents from 0 to B * S = ", B * S, ", got ",
      starts.empty() ? "none" : "from " + std::to_string(starts.front()) + " to " + std::to_string(starts.back()));
  const auto fall = std::is_sorted_until(starts.begin(), starts.end());
  TORCH_CHECK(fall == starts.end(), "[causal_attention] expected documents that begin one after the other, got ", *fall,
              " as entry ", fall - starts.begin());
  for (int64_t b = 1; b < B; ++b) {
    TORCH_CHECK(std::binary_search(starts.begin(), starts.end(), b * S),
                "[causal_attention] expected a document to begin at ", b * S, ", where row ", b,
                " of the batch does: no document spans two rows");
  }
  return starts;
}

}  // namespace longfold::ops
