#include "longfold/model/attention.h"

#include <ATen/ops/arange.h>

#include <algorithm>

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
  TORCH_CHECK(q.is_cuda() && (q.scalar_type() == at::kBFloat16 || q.scalar_type() == at::kHalf), "[", what,
              "] expected bf16 or fp16 on a GPU, got ", q.scalar_type(), " on ", q.device());
  TORCH_CHECK(documents.on_gpu.defined() && documents.begins, "[", what, "] expected documents made for ", q.device());
}

AttentionCore attention_core(AttentionEngine engine, bool repeatable) {
  if (engine == AttentionEngine::kFlash) {
    return [repeatable](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Documents& documents) {
      return flash_attention(q, k, v, documents, repeatable);
    };
  }
  if (engine == AttentionEngine::kCudnn) return cudnn_attention(repeatable);
  return [](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Documents& documents) {
    return ops::causal_attention(q, k, v, {.documents = documents.begins});
  };
}

}  // namespace longfold::model
