#include "longfold/model/rotary.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/pow.h>

#include <c10/util/Exception.h>

namespace longfold::model {

RotaryTables rotary_tables(const at::Tensor& positions, int64_t rotary_size, double base) {
  TORCH_CHECK(positions.dim() == 2 && positions.scalar_type() == at::kLong,
              "[rotary_tables] expected int64 positions [B, S], got ", positions.scalar_type(), " ", positions.sizes());
  const at::Tensor exponent = at::arange(0, rotary_size, 2, positions.options().dtype(at::kDouble)) / rotary_size;
  const at::Tensor angles = positions.unsqueeze(-1).to(at::kDouble) * at::pow(base, -exponent);
  return {angles.cos().to(at::kFloat), angles.sin().to(at::kFloat)};
}

at::Tensor apply_rotary(const at::Tensor& x, const RotaryTables& tables) {
  const int64_t half = tables.cos.size(-1);
  if (half == 0) return x;
  const at::Tensor cos = tables.cos.unsqueeze(2).to(x.scalar_type());
  const at::Tensor sin = tables.sin.unsqueeze(2).to(x.scalar_type());
  const at::Tensor first = x.narrow(-1, 0, half);
  const at::Tensor second = x.narrow(-1, half, half);
  const at::Tensor rest = x.narrow(-1, 2 * half, x.size(-1) - 2 * half);
  return at::cat({first * cos - second * sin, second * cos + first * sin, rest}, -1);
}

}  // namespace longfold::model
