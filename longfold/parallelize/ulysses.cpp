#include "longfold/parallelize/ulysses.h"

#include <ATen/ATen.h>

#include <utility>

namespace longfold::parallelize {
namespace {

using model::Attended;
using model::Documents;
using model::Qkv;

class Ulysses final : public model::AttentionCore {
 public:
  Ulysses(model::SharedCore core, parallel::Communicator processes)
      : core_(std::move(core)), processes_(std::move(processes)), P_(processes_.size()) {}

  [[nodiscard]] Attended forward(const Qkv& qkv, const Documents& documents, bool causal) const override {
    const Qkv all = to_heads(qkv);
    const Attended attended = core_->forward(all, documents, causal);
    return {to_tokens(attended.out),
            to_tokens(attended.log_sum_exp.transpose(1, 2).unsqueeze(3)).squeeze(3).transpose(1, 2).contiguous()};
  }

  [[nodiscard]] Qkv backward(const at::Tensor& grad_out, const Qkv& qkv, const Attended& attended,
                             const Documents& documents, bool causal) const override {
    const Qkv all = to_heads(qkv);
    const at::Tensor log_sum_exp =
        to_heads(attended.log_sum_exp.transpose(1, 2).unsqueeze(3)).squeeze(3).transpose(1, 2).contiguous();
    const at::Tensor out_and_grad = to_heads(at::cat({attended.out, grad_out.to(attended.out.scalar_type())}, 3));
    const int64_t D = attended.out.size(3);
    const Attended of_heads{out_and_grad.narrow(3, 0, D).contiguous(), log_sum_exp};
    const Qkv grads = core_->backward(out_and_grad.narrow(3, D, D).contiguous(), all, of_heads, documents, causal);
    return {to_tokens(grads.q), of_own_keys(to_tokens(grads.k), qkv.k.size(2)),
            of_own_keys(to_tokens(grads.v), qkv.v.size(2))};
  }

 private:
  // [B, s, H, D] -> [B, P s, H / P, D]
  [[nodiscard]] at::Tensor to_heads(const at::Tensor& x) const {
    const int64_t B = x.size(0), s = x.size(1), H = x.size(2), D = x.size(3);
    TORCH_CHECK(H % P_ == 0, "[ulysses] expected a number of heads that ", P_, " processes divide, got ", H);
    const at::Tensor sent = x.view({B, s, P_, H / P_, D}).permute({2, 0, 1, 3, 4}).contiguous();
    const at::Tensor received = at::empty_like(sent);
    processes_.all_to_all(received, sent).wait();
    return received.transpose(0, 1).reshape({B, P_ * s, H / P_, D});
  }
  // The way back.
  [[nodiscard]] at::Tensor to_tokens(const at::Tensor& x) const {
    const int64_t B = x.size(0), s = x.size(1) / P_, h = x.size(2), D = x.size(3);
    const at::Tensor sent = x.reshape({B, P_, s, h, D}).transpose(0, 1).contiguous();
    const at::Tensor received = at::empty_like(sent);
    processes_.all_to_all(received, sent).wait();
    return received.permute({1, 2, 0, 3, 4}).reshape({B, s, P_ * h, D});
  }

  // In one exchange.
  [[nodiscard]] Qkv to_heads(const Qkv& qkv) const {
    const at::Tensor k = for_all(qkv.k), v = for_all(qkv.v);
    const int64_t B = qkv.q.size(0), s = qkv.q.size(1), D = qkv.q.size(3), h = qkv.q.size(2) / P_, g = k.size(2) / P_;
    TORCH_CHECK(qkv.q.size(2) % P_ == 0 && k.size(2) % P_ == 0, "[ulysses] expected numbers of heads that ", P_,
                " processes divide, or which divide ", P_, " for keys, got ", qkv.q.size(2), " and ", qkv.k.size(2));
    const auto parts = [&](const at::Tensor& x, int64_t heads) { return x.reshape({B, s, P_, heads, D}); };
    // [B, s, P, h + 2 g, D]
    const at::Tensor all = at::cat({parts(qkv.q, h), parts(k, g), parts(v, g)}, 3).flatten(2, 3);
    const at::Tensor mine = to_heads(all);
    return {mine.narrow(2, 0, h), mine.narrow(2, h, g), mine.narrow(2, h + g, g)};
  }

  // Heads of keys so that each process gets one or more.
  [[nodiscard]] at::Tensor for_all(const at::Tensor& k) const {
    return k.size(2) < P_ && P_ % k.size(2) == 0 ? k.repeat_interleave(P_ / k.size(2), 2) : k;
  }
  [[nodiscard]] static at::Tensor of_own_keys(const at::Tensor& grad, int64_t heads) {
    if (grad.size(2) == heads) return grad;
    return grad.unflatten(2, {heads, -1})
        .to(at::promote_types(grad.scalar_type(), at::kFloat))
        .sum(3)
        .to(grad.scalar_type());
  }

  model::SharedCore core_;
  parallel::Communicator processes_;
  int64_t P_;
};

}  // namespace

model::SharedCore ulysses(model::SharedCore core, parallel::Communicator processes) {
  if (processes.is_alone()) return core;
  return std::make_shared<Ulysses>(std::move(core), std::move(processes));
}

}  // namespace longfold::parallelize
