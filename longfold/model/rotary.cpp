#include "longfold/model/rotary.h"

#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/pow.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>

#include <array>
#include <vector>

#include "longfold/kernels/cuda/training.h"
#include "longfold/kernels/dtype.h"
#include "longfold/model/gpu_stream.h"

namespace longfold::model {

namespace {

// Turns heads by an angle: (first, second) -> (first cos - second sin, second cos + first sin), or back.
enum class Turn : uint8_t { kForward, kBack };

// qkv [B, S, KV heads, (G + 2) D], contiguous, in place: all heads but those of values.
template <class T>
void rotate_rows(const at::Tensor& qkv, int64_t head_size, const at::Tensor& cos, const at::Tensor& sin, Turn turn) {
  using Math = at::opmath_type<T>;
  const int64_t half = cos.size(-1), groups = qkv.size(2), of_group = qkv.size(3);
  const auto* cos_rows = cos.const_data_ptr<float>();
  const auto* sin_rows = sin.const_data_ptr<float>();
  auto* rows = qkv.mutable_data_ptr<T>();
  const float sign = turn == Turn::kForward ? 1 : -1;
  at::parallel_for(0, qkv.size(0) * qkv.size(1), /*grain_size=*/64, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float *c = cos_rows + row * half, *s = sin_rows + row * half;
      for (int64_t group = 0; group < groups; ++group) {
        T* heads = rows + (row * groups + group) * of_group;
        for (T* head = heads; head < heads + of_group - head_size; head += head_size) {
          T *first = head, *second = head + half;
          for (int64_t d = 0; d < half; ++d) {
            const Math x = first[d], y = second[d], cosine = c[d], sine = sign * s[d];
            first[d] = static_cast<T>(x * cosine - y * sine);
            second[d] = static_cast<T>(y * cosine + x * sine);
          }
        }
      }
    }
  });
}

// The same by torch's operators, on any device: a piece at a time, in the tables' fp32 or the heads' fp64.
void rotate_by_operators(const at::Tensor& qkv, int64_t head_size, const at::Tensor& cos_table,
                         const at::Tensor& sin_table, Turn turn) {
  const auto math = qkv.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor heads = qkv.unflatten(-1, {-1, head_size}).narrow(-2, 0, qkv.size(3) / head_size - 1);
  const int64_t half = cos_table.size(-1);
  const at::Tensor first = heads.narrow(-1, 0, half), second = heads.narrow(-1, half, half);
  const auto for_heads = [&](const at::Tensor& table) { return table.to(math).unsqueeze(2).unsqueeze(2); };
  const at::Tensor cos = for_heads(cos_table);
  const at::Tensor sin = for_heads(turn == Turn::kForward ? sin_table : sin_table.neg());
  const at::Tensor x = first.to(math, /*non_blocking=*/false, /*copy=*/true), y = second.to(math);
  first.copy_(x * cos - y * sin);
  second.copy_(y * cos + x * sin);
}

// As rotate_rows(), on a GPU.
template <class T>
void rotate_on_gpu(const at::Tensor& qkv, int64_t head_size, const at::Tensor& cos, const at::Tensor& sin, Turn turn) {
  kernels::cuda::rotate_heads<T>({.qkv = static_cast<T*>(qkv.mutable_data_ptr()),
                                  .num_tokens = qkv.size(0) * qkv.size(1),
                                  .num_groups = qkv.size(2),
                                  .num_turned = qkv.size(3) / head_size - 1,
                                  .num_kept = 1,
                                  .head_size = head_size,
                                  .cos = cos.const_data_ptr<float>(),
                                  .sin = sin.const_data_ptr<float>(),
                                  .half = cos.size(-1),
                                  .back = turn == Turn::kBack},
                                 current_stream(qkv.device()));
}

void rotate(const at::Tensor& qkv, int64_t head_size, const at::Tensor& cos, const at::Tensor& sin, Turn turn) {
  if (qkv.is_meta()) return;  // in place: nothing is allocated
  if (qkv.is_cuda() && qkv.is_contiguous() && kernels::cuda::has_training_kernels()) {
    if (qkv.scalar_type() == at::kBFloat16) {
      return rotate_on_gpu<kernels::bfloat16>(qkv, head_size, cos, sin, turn);
    }
    if (qkv.scalar_type() == at::kHalf) return rotate_on_gpu<kernels::float16>(qkv, head_size, cos, sin, turn);
  }
  if (!qkv.is_cpu() || !qkv.is_contiguous()) return rotate_by_operators(qkv, head_size, cos, sin, turn);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, qkv.scalar_type(), "split_and_rotate",
                                  [&] { rotate_rows<scalar_t>(qkv, head_size, cos, sin, turn); });
}

// Heads of queries [B, S, KV heads, G, D], of keys and of values: views of a fused projection.
std::vector<at::Tensor> parts_of(const at::Tensor& qkv, int64_t head_size) {
  const int64_t of_queries = qkv.size(-1) - 2 * head_size;
  std::vector<at::Tensor> parts = qkv.split_with_sizes({of_queries, head_size, head_size}, -1);
  parts[0] = parts[0].unflatten(-1, {-1, head_size});
  return parts;
}

// Gradients of q, k and v as one [B, S, KV heads, (G + 2) D], without a copy where attention left them side by side.
at::Tensor together(const torch::autograd::variable_list& grads, int64_t head_size) {
  const at::Tensor &q = grads[0], &k = grads[1], &v = grads[2];
  const int64_t B = k.size(0), S = k.size(1), kv_heads = k.size(2), group = q.size(2) / kv_heads;
  const int64_t of_group = (group + 2) * head_size, of_token = kv_heads * of_group;
  const std::array<int64_t, 4> as_values{S * of_token, of_token, of_group, 1};
  const std::array<int64_t, 4> as_queries{S * of_token, of_token, group == 1 ? of_group : head_size, 1};
  const auto follows = [&](const at::Tensor& x, int64_t elements) {
    return x.is_alias_of(q) && x.storage_offset() == q.storage_offset() + elements;
  };
  if (!q.is_cpu() && (group == 1 || kv_heads == 1) && q.strides().equals(as_queries) && k.strides().equals(as_values) &&
      v.strides().equals(as_values) && follows(k, group * head_size) && follows(v, (group + 1) * head_size)) {
    return q.as_strided({B, S, kv_heads, of_group}, as_values, q.storage_offset());
  }
  return at::cat({q.unflatten(2, {kv_heads, -1}).flatten(3), k, v}, -1);
}

class SplitAndRotate : public torch::autograd::Function<SplitAndRotate> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context, const at::Tensor& qkv,
                                                int64_t head_size, const at::Tensor& cos, const at::Tensor& sin) {
    context->save_for_backward({cos, sin});
    context->saved_data["head_size"] = head_size;
    // Detached, the parts are no views in the eyes of autograd; they still share the version counter, so a linear that
    // needed its output in backward would be told.
    const at::Tensor turned = qkv.detach();
    rotate(turned, head_size, cos, sin, Turn::kForward);
    std::vector<at::Tensor> parts = parts_of(turned, head_size);
    parts[0] = parts[0].flatten(2, 3);
    for (at::Tensor& part : parts) part = part.detach();
    return parts;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    const int64_t head_size = context->saved_data["head_size"].toInt();
    const at::Tensor grad = together(grads, head_size);  // nobody else reads it: it is turned in place
    rotate(grad, head_size, saved[0], saved[1], Turn::kBack);
    return {grad, {}, {}, {}};
  }
};

}  // namespace

RotaryTables rotary_tables(const at::Tensor& positions, int64_t rotary_size, double base, double scaling) {
  TORCH_CHECK(positions.dim() == 2 && positions.scalar_type() == at::kLong,
              "[rotary_tables] expected int64 positions [B, S], got ", positions.scalar_type(), " ", positions.sizes());
  const at::Tensor exponent = at::arange(0, rotary_size, 2, positions.options().dtype(at::kDouble)) / rotary_size;
  const at::Tensor angles = positions.unsqueeze(-1).to(at::kDouble) / scaling * at::pow(base, -exponent);
  return {angles.cos().to(at::kFloat), angles.sin().to(at::kFloat)};
}

Qkv split_and_rotate(const at::Tensor& qkv, int64_t head_size, const RotaryTables& tables) {
  TORCH_CHECK(qkv.dim() == 4 && qkv.size(3) % head_size == 0 && qkv.size(3) >= 3 * head_size,
              "[split_and_rotate] expected qkv of shape [B, S, KV heads, (G + 2) ", head_size, "], got ", qkv.sizes());
  TORCH_CHECK(qkv.size(0) == tables.cos.size(0) && qkv.size(1) == tables.cos.size(1),
              "[split_and_rotate] expected rotary tables for qkv ", qkv.sizes(), ", got ", tables.cos.sizes());
  TORCH_CHECK(tables.cos.is_contiguous() && tables.sin.is_contiguous(),
              "[split_and_rotate] expected contiguous rotary tables, got strides ", tables.cos.strides());
  const auto parts = SplitAndRotate::apply(qkv, head_size, tables.cos, tables.sin);
  return {parts[0], parts[1], parts[2]};
}

}  // namespace longfold::model
