// What a model is built from: the one seam through which parallel layers, sequence-parallel attention, other linears, a
// tiled loss, activation checkpointing and offload come in. A model asks only for these pieces; local_layers() gives
// the plain ones of a single device.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "longfold/model/attention.h"
#include "longfold/model/dropout.h"
#include "longfold/model/linear.h"
#include "longfold/model/rotary.h"

namespace longfold::model {

// A linear (weight [out, in], perhaps a parameter "bias" [out]) or an embedding (weight [vocab, hidden]).
class Layer : public torch::nn::Module {
 public:
  virtual at::Tensor forward(const at::Tensor& input) = 0;
  at::Tensor weight;
};

// What every block is told of the tokens before it.
struct BlockContext {
  RotaryTables rotary;
  Documents documents;
  Dropout dropout = {};  // the layer's
};

// What a transformer block computes, x [B, S, hidden] to the same shape.
using BlockForward = std::function<at::Tensor(const at::Tensor& x, const BlockContext& context)>;

struct Layers {
  using MakeLinear = std::function<std::shared_ptr<Layer>(int64_t in_features, int64_t out_features, bool bias)>;

  MakeLinear column_linear;  // its output may be a slice of the features (whole heads of keys with their queries)
  MakeLinear row_linear;     // takes such a slice and gives all out_features
  std::function<std::shared_ptr<Layer>(int64_t vocab_size, int64_t hidden_size)> embedding;
  AttentionCore attention;
  // hidden [B, S, h], head weight [V, h] -> scores of the next token [B, S, V]
  std::function<at::Tensor(const at::Tensor& hidden, const at::Tensor& head)> logits;
  // hidden, head weight, labels [B, S] int64 -> negative log likelihood [B, S], fp32 (fp64 if hidden
  // is); 0 where the label is kIgnoredLabel
  std::function<at::Tensor(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& labels)> loss;
  // called once per block: what to run in place of `forward`, whose parameters are those of `block`
  std::function<BlockForward(const std::shared_ptr<torch::nn::Module>& block, BlockForward forward)> wrap_block;
};

inline constexpr int64_t kIgnoredLabel = -100;

struct Engines {
  LinearEngine linear = LinearEngine::kTorch;
  AttentionEngine attention = AttentionEngine::kLongfold;
  bool repeatable = true;  // attention_core()
};
[[nodiscard]] Layers local_layers(const Engines& engines = {});

}  // namespace longfold::model
