#include "longfold/model/attention.h"

#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <c10/util/Exception.h>

namespace longfold::model {

namespace {

// One head for each of the queries: a copy, where there are fewer.
at::Tensor for_each_query(const at::Tensor& x, int64_t num_heads) {
  const int64_t each = num_heads / x.size(2);
  return each == 1 ? x : x.unsqueeze(3).expand({-1, -1, -1, each, -1}).flatten(2, 3);
}

}  // namespace

at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  TORCH_CHECK(q.dim() == 4, "[causal_attention] expected q of shape [B, S, H, D], got ", q.sizes());
  // The kernel aligns its causal mask at the upper left when there are fewer queries than keys.
  const auto but_heads = [](const at::Tensor& x) { return x.sizes().slice(0, 2).vec(); };
  TORCH_CHECK(k.sizes() == v.sizes() && k.dim() == 4 && but_heads(q) == but_heads(k) && q.size(3) == k.size(3),
              "[causal_attention] expected k and v of the shape of q but for the number of heads, got ", q.sizes(),
              ", ", k.sizes(), " and ", v.sizes());
  TORCH_CHECK(k.size(2) > 0 && q.size(2) % k.size(2) == 0,
              "[causal_attention] expected a number of heads of q that those of k and v divide, got ", q.size(2),
              " and ", k.size(2));
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
      q.transpose(1, 2), for_each_query(k, q.size(2)).transpose(1, 2), for_each_query(v, q.size(2)).transpose(1, 2),
      /*dropout_p=*/0.0, /*is_causal=*/true);
  return out.transpose(1, 2);
}

}  // namespace longfold::model
