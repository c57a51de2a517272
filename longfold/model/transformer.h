// GPT-NeoX, written for one device and built from `Layers`. Parameters carry the names, and the fused projection the
// row order [head, (q, k, v), d], of Hugging Face's GPTNeoXForCausalLM.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/normalization.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <vector>

#include "longfold/model/config.h"
#include "longfold/model/layers.h"

namespace longfold::model {

class TransformerImpl : public torch::nn::Module {
 public:
  // All parameters are zero until initialise() or a checkpoint fills them. Throws base::UserError for a bad config.
  explicit TransformerImpl(const ModelConfig& config, const Layers& layers = local_layers());

  // Weights are normal(0, init_std), those that feed the residual stream divided by sqrt(2 num_layers); biases are 0,
  // gains of layer norms 1. Each parameter depends on the seed and its name only.
  void initialise(uint64_t seed);

  // tokens and positions [B, S], int64 -> [B, S, hidden], after the final layer norm.
  at::Tensor hidden(const at::Tensor& tokens, const at::Tensor& positions);

  // Negative log likelihood of each label, [B, S], fp32; 0 where the label is kIgnoredLabel.
  at::Tensor token_losses(const at::Tensor& tokens, const at::Tensor& labels, const at::Tensor& positions);

  // Scores of the next token, [B, S, vocab].
  at::Tensor logits(const at::Tensor& tokens, const at::Tensor& positions);

  [[nodiscard]] const ModelConfig& config() const { return config_; }

 private:
  ModelConfig config_;
  Layers layers_;
  std::vector<BlockForward> blocks_;
  std::shared_ptr<Layer> embed_in_;
  torch::nn::LayerNorm final_layer_norm_ = nullptr;
  std::shared_ptr<Layer> embed_out_;
};
TORCH_MODULE(Transformer);

}  // namespace longfold::model
