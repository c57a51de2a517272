// Causal attention of the model, by one of three engines. They differ in the last bits.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/DeviceType.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace longfold::model {

enum class AttentionEngine : uint8_t {
  kLongfold,  // ops/causal_attention.h, on the CPU
  kFlash,     // FlashAttention-2 (Dao 2023) as torch has it, on NVIDIA GPUs, bf16 and fp16
  kCudnn,     // cuDNN's, likewise, for what it takes (model/cudnn_attention.h), else as kFlash
};

// compute.attention: "longfold", "flash", "cudnn", or "auto": longfold on the CPU, on a GPU cudnn where this build has
// it, else flash. base::UserError for anything else, and for an engine that is not for the device or not in this build.
[[nodiscard]] AttentionEngine attention_engine(std::string_view name, at::DeviceType device);
[[nodiscard]] std::string to_string(AttentionEngine engine);

// Which tokens of B rows of S see each other: those of one document.
struct Documents {
  std::optional<at::Tensor> begins = {};  // int64 on the CPU: where each begins, then B * S; none: each row is one
  at::Tensor on_gpu = {};                 // the same, int32, on the GPU that attends; rows are documents there too
  int64_t longest = 0;                    // tokens; for a GPU
  bool whole_rows = true;                 // each row is one document; for a GPU
};
// For tensors [B, S] on `device`.
[[nodiscard]] Documents documents_on(at::Device device, const std::optional<at::Tensor>& begins, int64_t B, int64_t S);

// Throws c10::Error unless q is bf16 or fp16 on a GPU and `documents` are made for it.
void check_on_gpu(const char* what, const at::Tensor& q, const Documents& documents);

struct Qkv {
  at::Tensor q;     // [B, Lq, H, D]
  at::Tensor k, v;  // [B, Lk, KV heads, D]
};
struct Attended {
  at::Tensor out;                     // [B, Lq, H, D]
  at::Tensor log_sum_exp;             // [B, H, Lq], fp32 (fp64 of fp64)
  std::vector<at::Tensor> rest = {};  // what the engine's backward wants besides
};

// Both passes of an engine, for whoever decides what is kept between them. Differentiable by attend() alone.
class AttentionCore {
 public:
  virtual ~AttentionCore() = default;

  // causal: query i sees the keys up to itself in its document, Lq = Lk. Else all queries see all keys, Lq and Lk are
  // any, and `documents` do not matter.
  [[nodiscard]] virtual Attended forward(const Qkv& qkv, const Documents& documents, bool causal) const = 0;

  // The gradients by q, k and v. With out and log_sum_exp of more keys than these, their share of the gradients.
  [[nodiscard]] virtual Qkv backward(const at::Tensor& grad_out, const Qkv& qkv, const Attended& attended,
                                     const Documents& documents, bool causal) const = 0;
};
using SharedCore = std::shared_ptr<const AttentionCore>;

// Causal attention within documents, [B, S, H, D]. Differentiable once.
[[nodiscard]] at::Tensor attend(const SharedCore& core, const Qkv& qkv, const Documents& documents);

// `repeatable`: the same bits run after run. Without it the GPU's backward passes add gradients in any order.
[[nodiscard]] SharedCore attention_core(AttentionEngine engine, bool repeatable = true);

}  // namespace longfold::model
