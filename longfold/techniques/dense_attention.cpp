#include "longfold/techniques/dense_attention.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

namespace longfold::techniques {
namespace {

using model::Attended;
using model::Documents;
using model::Qkv;

// [B, tokens, heads, D] -> [B, KV heads, G, tokens, D]
at::Tensor by_group(const at::Tensor& x, int64_t kv_heads) {
  return x.unflatten(2, {kv_heads, -1}).permute({0, 2, 3, 1, 4});
}
// and back, contiguous
at::Tensor by_token(const at::Tensor& x) {
  return x.permute({0, 3, 1, 2, 4}).flatten(2, 3).contiguous();
}

// [B, S, S]: true where the query may not see the key.
at::Tensor mask(const at::Tensor& q, const Documents& documents) {
  const int64_t B = q.size(0), S = q.size(1);
  const at::Tensor hidden = at::ones({S, S}, q.options().dtype(at::kBool)).triu_(1);
  if (!documents.begins || q.is_meta()) return hidden.expand({B, S, S});
  const at::Tensor of_token = at::bucketize(at::arange(B * S), *documents.begins, /*out_int32=*/false, /*right=*/true)
                                  .view({B, S})
                                  .to(q.device());
  return of_token.unsqueeze(2).ne(of_token.unsqueeze(1)).logical_or_(hidden);
}

class DenseAttention final : public model::AttentionCore {
 public:
  [[nodiscard]] Attended forward(const Qkv& qkv, const Documents& documents, bool causal) const override {
    const int64_t groups = qkv.k.size(2);
    at::Tensor scores = at::matmul(by_group(qkv.q, groups), by_group(qkv.k, groups).transpose(3, 4));
    if (scores.scalar_type() != at::kDouble) scores = scores.to(at::kFloat);
    scores.mul_(scale(qkv));
    if (causal) {
      scores.masked_fill_(mask(qkv.q, documents).unsqueeze(1).unsqueeze(1), -std::numeric_limits<double>::infinity());
    }
    const at::Tensor largest = scores.amax(4, /*keepdim=*/true);
    const at::Tensor sum = scores.sub_(largest).exp_().sum(4, /*keepdim=*/true);
    const at::Tensor log_sum_exp = (sum.log() + largest).squeeze(4).flatten(1, 2);
    const at::Tensor weights = scores.div_(sum).to(qkv.q.scalar_type());
    return {by_token(at::matmul(weights, by_group(qkv.v, groups))), log_sum_exp, {weights}};
  }

  [[nodiscard]] Qkv backward(const at::Tensor& grad_out, const Qkv& qkv, const Attended& attended, const Documents&,
                             bool) const override {
    const int64_t groups = qkv.k.size(2);
    const at::Tensor &weights = attended.rest[0], grad = by_group(grad_out, groups);
    const auto of_group = [](const at::Tensor& x) { return x.sum(2, /*keepdim=*/true); };
    const at::Tensor grad_v = of_group(at::matmul(weights.transpose(3, 4), grad));
    const at::Tensor delta = (grad * by_group(attended.out, groups)).sum(4, /*keepdim=*/true);
    const at::Tensor grad_scores =
        at::matmul(grad, by_group(qkv.v, groups).transpose(3, 4)).sub_(delta).mul_(weights).mul_(scale(qkv));
    return {by_token(at::matmul(grad_scores, by_group(qkv.k, groups))),
            by_token(of_group(at::matmul(grad_scores.transpose(3, 4), by_group(qkv.q, groups)))), by_token(grad_v)};
  }

 private:
  static double scale(const Qkv& qkv) { return 1 / std::sqrt(static_cast<double>(qkv.q.size(3))); }
};

}  // namespace

model::SharedCore dense_attention() {
  return std::make_shared<DenseAttention>();
}

}  // namespace longfold::techniques
