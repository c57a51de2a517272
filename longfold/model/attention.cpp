#include "longfold/model/attention.h"

#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <c10/util/Exception.h>

namespace longfold::model {

at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  TORCH_CHECK(q.dim() == 4, "[causal_attention] expected q of shape [B, S, H, D], got ", q.sizes());
  // The kernel aligns its causal mask at the upper left when there are fewer queries than keys.
  TORCH_CHECK(q.sizes() == k.sizes() && q.sizes() == v.sizes(),
              "[causal_attention] expected q, k and v of one shape, got ", q.sizes(), ", ", k.sizes(), " and ",
              v.sizes());
  TORCH_CHECK(q.scalar_type() == k.scalar_type() && q.scalar_type() == v.scalar_type(),
              "[causal_attention] expected q, k and v of one dtype, got ", q.scalar_type(), ", ", k.scalar_type(),
              " and ", v.scalar_type());
  for (const at::Tensor* x : {&q, &k, &v}) {
    TORCH_CHECK(x->is_cpu(), "[causal_attention] expected tensors on the CPU, got ", x->device());
    // The kernel reads the head dim with stride 1 whatever it is, and does not check.
    TORCH_CHECK(x->stride(3) == 1 || x->size(3) == 1, "[causal_attention] expected a contiguous head dim, got stride ",
                x->stride(3));
  }
  const auto [out, log_sum_exp] = at::_scaled_dot_product_flash_attention_for_cpu(
      q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), /*dropout_p=*/0.0, /*is_causal=*/true);
  return out.transpose(1, 2);
}

}  // namespace longfold::model
