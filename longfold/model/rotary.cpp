#include "longfold/model/rotary.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/pow.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>

#include <vector>

namespace longfold::model {

namespace {

// x [B, S, H, D]: (first, second) -> (first cos - second sin, second cos + first sin), in place.
void rotate(const at::Tensor& x, const at::Tensor& cos_table, const at::Tensor& sin_table) {
  const int64_t half = cos_table.size(-1);
  const at::Tensor cos = cos_table.unsqueeze(2).to(x.scalar_type());
  const at::Tensor sin = sin_table.unsqueeze(2).to(x.scalar_type());
  at::Tensor first = x.narrow(-1, 0, half);
  at::Tensor second = x.narrow(-1, half, half);
  const at::Tensor old_first = first.clone();
  first.mul_(cos).addcmul_(second, sin, -1);
  second.mul_(cos).addcmul_(old_first, sin);
}

class SplitAndRotate : public torch::autograd::Function<SplitAndRotate> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context, const at::Tensor& qkv,
                                                const at::Tensor& cos, const at::Tensor& sin) {
    context->save_for_backward({cos, sin});
    // Detached, the parts are no views in the eyes of autograd; they still share the version counter, so a linear that
    // needed its output in backward would be told.
    std::vector<at::Tensor> parts = qkv.detach().chunk(3, -1);
    for (at::Tensor& part : parts) part = part.detach();
    rotate(parts[0], cos, sin);
    rotate(parts[1], cos, sin);
    return parts;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    const at::Tensor grad = at::cat(grads, -1);
    const at::Tensor minus_sin = saved[1].neg();
    rotate(grad.chunk(3, -1)[0], saved[0], minus_sin);
    rotate(grad.chunk(3, -1)[1], saved[0], minus_sin);
    return {grad, {}, {}};
  }
};

}  // namespace

RotaryTables rotary_tables(const at::Tensor& positions, int64_t rotary_size, double base) {
  TORCH_CHECK(positions.dim() == 2 && positions.scalar_type() == at::kLong,
              "[rotary_tables] expected int64 positions [B, S], got ", positions.scalar_type(), " ", positions.sizes());
  const at::Tensor exponent = at::arange(0, rotary_size, 2, positions.options().dtype(at::kDouble)) / rotary_size;
  const at::Tensor angles = positions.unsqueeze(-1).to(at::kDouble) * at::pow(base, -exponent);
  return {angles.cos().to(at::kFloat), angles.sin().to(at::kFloat)};
}

Qkv split_and_rotate(const at::Tensor& qkv, const RotaryTables& tables) {
  TORCH_CHECK(qkv.dim() == 4 && qkv.size(3) % 3 == 0, "[split_and_rotate] expected qkv of shape [B, S, H, 3 D], got ",
              qkv.sizes());
  TORCH_CHECK(qkv.size(0) == tables.cos.size(0) && qkv.size(1) == tables.cos.size(1),
              "[split_and_rotate] expected rotary tables for qkv ", qkv.sizes(), ", got ", tables.cos.sizes());
  const auto parts = SplitAndRotate::apply(qkv, tables.cos, tables.sin);
  return {parts[0], parts[1], parts[2]};
}

}  // namespace longfold::model
