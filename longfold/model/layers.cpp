#include "longfold/model/layers.h"

#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/zeros.h>

#include <utility>
namespace longfold::model {
namespace {

class LocalLinear final : public Layer {
 public:
  LocalLinear(int64_t in_features, int64_t out_features, bool with_bias, const Engines& engines)
      : engine_(engines.linear) {
    weight = register_parameter("weight", at::zeros({out_features, in_features}, engines.device));
    if (with_bias) bias_ = register_parameter("bias", at::zeros({out_features}, engines.device));
  }
  at::Tensor forward(const at::Tensor& input) override { return linear(input, weight, bias_, engine_); }

 private:
  LinearEngine engine_;
  at::Tensor bias_;
};

class LocalEmbedding final : public Layer {
 public:
  LocalEmbedding(int64_t vocab_size, int64_t hidden_size, at::Device device) {
    weight = register_parameter("weight", at::zeros({vocab_size, hidden_size}, device));
  }
  at::Tensor forward(const at::Tensor& tokens) override { return at::embedding(weight, tokens); }
};

at::Tensor local_loss(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& labels, LinearEngine engine) {
  at::Tensor logits = linear(hidden, head, {}, engine).flatten(0, 1);  // [B S, V]
  if (logits.scalar_type() != at::kDouble) logits = logits.to(at::kFloat);
  return at::cross_entropy_loss(logits, labels.flatten(), {}, at::Reduction::None, kIgnoredLabel).view(labels.sizes());
}

}  // namespace

Layers local_layers(const Engines& engines) {
  const LinearEngine engine = engines.linear;
  const auto make_linear = [engines](int64_t in_features, int64_t out_features, bool bias) {
    return std::make_shared<LocalLinear>(in_features, out_features, bias, engines);
  };
  return {
      .column_linear = make_linear,
      .row_linear = make_linear,
      .embedding =
          [device = engines.device](int64_t vocab_size, int64_t hidden_size) {
            return std::make_shared<LocalEmbedding>(vocab_size, hidden_size, device);
          },
      .attention = attention_core(engines.attention, engines.repeatable),
      .device = engines.device,
      .logits = [engine](const at::Tensor& hidden, const at::Tensor& head) { return linear(hidden, head, {}, engine); },
      .loss = [engine](const at::Tensor& hidden, const at::Tensor& head,
                       const at::Tensor& labels) { return local_loss(hidden, head, labels, engine); },
      .arrange = arrange_plainly,
  };
}

BlockContext BlockContext::narrow(int64_t begin, int64_t num_tokens) const {
  const auto part = [&](const at::Tensor& table) { return table.narrow(1, begin, num_tokens).contiguous(); };
  return {.rotary = {part(rotary.cos), part(rotary.sin)}, .documents = documents, .dropout = dropout.from_token(begin)};
}

std::vector<BlockForward> arrange_plainly(const std::vector<BlockParts>& blocks) {
  std::vector<BlockForward> all;
  for (const BlockParts& block : blocks) {
    all.emplace_back([block](const at::Tensor& x, const BlockContext& context) {
      const Qkv qkv = block.project(x, context);
      return block.finish(x, attend(block.attention, qkv, context.documents), context);
    });
  }
  return all;
}

}  // namespace longfold::model
