#include "longfold/model/rotary.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/pow.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>

#include <vector>

namespace longfold::model {

namespace {

// x [B, S, ..., D]: (first, second) -> (first cos - second sin, second cos + first sin), in place.
void rotate(const at::Tensor& x, const at::Tensor& cos_table, const at::Tensor& sin_table) {
  const int64_t half = cos_table.size(-1);
  const auto for_heads = [&](at::Tensor table) {
    while (table.dim() < x.dim()) table = table.unsqueeze(2);
    return table.to(x.scalar_type());
  };
  const at::Tensor cos = for_heads(cos_table), sin = for_heads(sin_table);
  at::Tensor first = x.narrow(-1, 0, half);
  at::Tensor second = x.narrow(-1, half, half);
  const at::Tensor old_first = first.clone();
  first.mul_(cos).addcmul_(second, sin, -1);
  second.mul_(cos).addcmul_(old_first, sin);
}

// Heads of queries [B, S, KV heads, G, D], of keys and of values: views of a fused projection.
std::vector<at::Tensor> parts_of(const at::Tensor& qkv, int64_t head_size) {
  const int64_t of_queries = qkv.size(-1) - 2 * head_size;
  std::vector<at::Tensor> parts = qkv.split_with_sizes({of_queries, head_size, head_size}, -1);
  parts[0] = parts[0].unflatten(-1, {-1, head_size});
  return parts;
}

class SplitAndRotate : public torch::autograd::Function<SplitAndRotate> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context, const at::Tensor& qkv,
                                                int64_t head_size, const at::Tensor& cos, const at::Tensor& sin) {
    context->save_for_backward({cos, sin});
    context->saved_data["head_size"] = head_size;
    // Detached, the parts are no views in the eyes of autograd; they still share the version counter, so a linear that
    // needed its output in backward would be told.
    std::vector<at::Tensor> parts = parts_of(qkv.detach(), head_size);
    rotate(parts[0], cos, sin);
    rotate(parts[1], cos, sin);
    parts[0] = parts[0].flatten(2, 3);
    for (at::Tensor& part : parts) part = part.detach();
    return parts;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    const int64_t head_size = context->saved_data["head_size"].toInt(), kv_heads = grads[1].size(2);
    const at::Tensor of_queries = grads[0].unflatten(2, {kv_heads, -1}).flatten(3);
    const at::Tensor grad = at::cat({of_queries, grads[1], grads[2]}, -1);
    const at::Tensor minus_sin = saved[1].neg();
    const std::vector<at::Tensor> parts = parts_of(grad, head_size);
    rotate(parts[0], saved[0], minus_sin);
    rotate(parts[1], saved[0], minus_sin);
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
  const auto parts = SplitAndRotate::apply(qkv, head_size, tables.cos, tables.sin);
  return {parts[0], parts[1], parts[2]};
}

}  // namespace longfold::model
