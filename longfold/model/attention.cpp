#include "longfold/model/attention.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <ATen/core/ivalue.h>
#include <ATen/ops/arange.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <utility>

#include "longfold/base/error.h"
#include "longfold/model/cudnn_attention.h"
#include "longfold/model/flash_attention.h"
#include "longfold/ops/causal_attention.h"

namespace longfold::model {

AttentionEngine attention_engine(std::string_view name, at::DeviceType device) {
  const bool on_cpu = device == at::kCPU;
  const std::string no_cudnn = missing_for_cudnn();
  if (name == "auto" && on_cpu) return AttentionEngine::kLongfold;
  if (name == "auto") return no_cudnn.empty() ? AttentionEngine::kCudnn : AttentionEngine::kFlash;
  if (name == "longfold" && on_cpu) return AttentionEngine::kLongfold;
  if (name == "flash" && !on_cpu) return AttentionEngine::kFlash;
  if (name == "cudnn" && !on_cpu) {
    if (no_cudnn.empty()) return AttentionEngine::kCudnn;
    throw base::UserError("compute.attention is \"cudnn\", which this build lacks: " + no_cudnn);
  }
  throw base::UserError(std::string("expected compute.attention to be ") +
                        (on_cpu ? "auto or longfold on the CPU" : "auto, flash or cudnn on a GPU") + ", got \"" +
                        std::string(name) + "\"");
}

std::string to_string(AttentionEngine engine) {
  switch (engine) {
    case AttentionEngine::kLongfold:
      return "longfold";
    case AttentionEngine::kFlash:
      return "flash";
    case AttentionEngine::kCudnn:
      return "cudnn";
  }
  return "";
}

Documents documents_on(at::Device device, const std::optional<at::Tensor>& begins, int64_t B, int64_t S) {
  if (device.is_cpu()) return {.begins = begins};
  const at::Tensor all = begins ? *begins : at::arange(B + 1, at::kLong) * S;
  TORCH_CHECK(all.is_cpu() && all.scalar_type() == at::kLong && all.dim() == 1 && all.numel() >= 1,
              "[attention] expected documents int64 [n + 1] on the CPU, got ", all.scalar_type(), " ", all.sizes(),
              " on ", all.device());
  const auto* at_token = all.const_data_ptr<int64_t>();
  int64_t longest = 0;
  for (int64_t i = 0; i + 1 < all.numel(); ++i) longest = std::max(longest, at_token[i + 1] - at_token[i]);
  const bool whole_rows =
      all.numel() == B + 1 && longest == S;  // of B documents with B * S tokens none is shorter then
  return {.begins = all, .on_gpu = all.to(device, at::kInt), .longest = longest, .whole_rows = whole_rows};
}

void check_on_gpu(const char* what, const at::Tensor& q, const Documents& documents) {
  TORCH_CHECK((q.is_cuda() || q.is_meta()) && (q.scalar_type() == at::kBFloat16 || q.scalar_type() == at::kHalf), "[",
              what, "] expected bf16 or fp16 on a GPU, got ", q.scalar_type(), " on ", q.device());
  TORCH_CHECK(documents.on_gpu.defined() && documents.begins, "[", what, "] expected documents made for ", q.device());
}

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class LongfoldAttention final : public AttentionCore {
 public:
  [[nodiscard]] Attended forward(const Qkv& qkv, const Documents& documents, bool causal) const override {
    auto [out, log_sum_exp] =
        ops::causal_attention_with_log_sum_exp(qkv.q, qkv.k, qkv.v, options(qkv, documents, causal));
    return {std::move(out), std::move(log_sum_exp)};
  }
  [[nodiscard]] Qkv backward(const at::Tensor& grad_out, const Qkv& qkv, const Attended& attended,
                             const Documents& documents, bool causal) const override {
    auto grads = ops::causal_attention_backward(grad_out, qkv.q, qkv.k, qkv.v, {attended.out, attended.log_sum_exp},
                                                options(qkv, documents, causal));
    return {std::move(grads.q), std::move(grads.k), std::move(grads.v)};
  }

 private:
  static ops::CausalAttentionOptions options(const Qkv& qkv, const Documents& documents, bool causal) {
    if (causal) return {.documents = documents.begins};
    return {.first_query = qkv.k.size(1)};
  }
};

// What autograd carries from one pass to the other besides tensors.
struct Call : torch::CustomClassHolder {
  Call(SharedCore with, Documents of) : core(std::move(with)), documents(std::move(of)) {}
  SharedCore core;
  Documents documents;
};

class Attend : public torch::autograd::Function<Attend> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const c10::intrusive_ptr<Call>& call) {
    const at::AutoDispatchBelowADInplaceOrView below;
    Attended attended = call->core->forward({q, k, v}, call->documents, /*causal=*/true);
    variable_list kept{q, k, v, attended.out, attended.log_sum_exp};
    kept.insert(kept.end(), attended.rest.begin(), attended.rest.end());
    context->save_for_backward(kept);
    context->saved_data["call"] = c10::IValue::make_capsule(call);
    return attended.out;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const at::NoGradGuard no_grad;
    const variable_list kept = context->get_saved_variables();
    const auto capsule = context->saved_data["call"].toCapsule();
    const auto& call = static_cast<const Call&>(*capsule);
    const Qkv gradients =
        call.core->backward(grads[0], {kept[0], kept[1], kept[2]},
                            {kept[3], kept[4], variable_list(kept.begin() + 5, kept.end())}, call.documents,
                            /*causal=*/true);
    return {gradients.q, gradients.k, gradients.v, {}};
  }
};

}  // namespace

at::Tensor attend(const SharedCore& core, const Qkv& qkv, const Documents& documents) {
  return Attend::apply(qkv.q, qkv.k, qkv.v, c10::make_intrusive<Call>(core, documents));
}

SharedCore attention_core(AttentionEngine engine, bool repeatable) {
  if (engine == AttentionEngine::kFlash) return flash_attention(repeatable);
  if (engine == AttentionEngine::kCudnn) return cudnn_attention(repeatable);
  return std::make_shared<LongfoldAttention>();
}

}  // namespace longfold::model
