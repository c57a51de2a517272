// A decoder-only transformer, written for one device and built from `Layers`. Whatever its family, parameters carry the
// names of Hugging Face's GPTNeoXForCausalLM, with `embed_positions` and `mlp.gate` besides, and the rows of the fused
// projection its order [head, (q, k, v), d], with as many heads of queries in place of q as share a head of keys and
// values.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "longfold/model/config.h"
#include "longfold/model/layers.h"
#include "longfold/model/norm.h"

namespace longfold::model {

class TransformerImpl : public torch::nn::Module {
 public:
  // All parameters are zero until initialise() or a checkpoint fills them. Throws base::UserError for a bad config.
  explicit TransformerImpl(const ModelConfig& config, const Layers& layers = local_layers());

  // Weights are normal(0, init_std), those that feed the residual stream divided by sqrt(2 num_layers); biases are 0,
  // gains of norms 1. Each parameter depends on the seed and its name only.
  void initialise(uint64_t seed);

  // Rounds the parameters to kBFloat16 or kHalf, and computes in it from now on: all but the tables of embeddings,
  // whose gradients are sums over many tokens. Norms, softmax and losses sum in fp32 inside.
  void compute_in(at::ScalarType dtype);

  // tokens and positions [B, S], int64 -> [B, S, hidden], after the final norm. Learned positions are below
  // max_positions. Tokens see those before them in their document: `documents` holds where each begins, then B * S
  // (ops/causal_attention.h); without it each row is one. With a key model.dropout acts, as in training; without, not.
  at::Tensor hidden(const at::Tensor& tokens, const at::Tensor& positions,
                    const std::optional<at::Tensor>& documents = {}, const std::optional<DropoutKey>& dropout = {});

  // Negative log likelihood of each label, [B, S], fp32; 0 where the label is kIgnoredLabel.
  at::Tensor token_losses(const at::Tensor& tokens, const at::Tensor& labels, const at::Tensor& positions,
                          const std::optional<at::Tensor>& documents = {},
                          const std::optional<DropoutKey>& dropout = {});

  // Scores of the next token, [B, S, vocab].
  at::Tensor logits(const at::Tensor& tokens, const at::Tensor& positions,
                    const std::optional<at::Tensor>& documents = {});

  [[nodiscard]] const ModelConfig& config() const { return config_; }

 private:
  [[nodiscard]] at::Tensor head() const;  // [vocab, hidden]

  ModelConfig config_;
  Layers layers_;
  std::optional<at::ScalarType> compute_dtype_;  // none: that of the parameters
  std::vector<BlockForward> blocks_;
  std::shared_ptr<Layer> embed_in_, embed_positions_;  // the latter of learned positions alone
  std::shared_ptr<Norm> final_layer_norm_;
  std::shared_ptr<Layer> embed_out_;  // null: it is embed_in_
};
TORCH_MODULE(Transformer);

}  // namespace longfold::model
