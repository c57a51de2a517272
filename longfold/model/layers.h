// What a model is built from: the one seam through which parallel layers, sequence-parallel attention, other linears, a
// tiled loss, activation checkpointing and offload come in. A model asks only for these pieces; local_layers() gives
// the plain ones of a single device.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

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
  Dropout dropout = {};  // the step's

  // For the part of each row's tokens that begins there. Its documents are not narrowed: only attention asks for them.
  [[nodiscard]] BlockContext narrow(int64_t begin, int64_t num_tokens) const;
};

// What a transformer block computes, x [B, S, hidden] to the same shape.
using BlockForward = std::function<at::Tensor(const at::Tensor& x, const BlockContext& context)>;

// A block in two parts, around the one place where tokens meet. Both take any part of the tokens, with its context.
struct BlockParts {
  std::shared_ptr<torch::nn::Module> module;  // the block's parameters
  std::function<Qkv(const at::Tensor& x, const BlockContext& context)> project;
  SharedCore attention;
  // x and what was attended [B, S, H, D] -> the block's output
  std::function<at::Tensor(const at::Tensor& x, const at::Tensor& attended, const BlockContext& context)> finish;
};

struct Layers {
  using MakeLinear = std::function<std::shared_ptr<Layer>(int64_t in_features, int64_t out_features, bool bias)>;

  MakeLinear column_linear;  // its output may be a slice of the features (whole heads of keys with their queries)
  MakeLinear row_linear;     // takes such a slice and gives all out_features
  std::function<std::shared_ptr<Layer>(int64_t vocab_size, int64_t hidden_size)> embedding;
  SharedCore attention;
  at::Device device = at::kCPU;  // where all parameters are made
  // hidden [B, S, h], head weight [V, h] -> scores of the next token [B, S, V]
  std::function<at::Tensor(const at::Tensor& hidden, const at::Tensor& head)> logits;
  // hidden, head weight, labels [B, S] int64 -> negative log likelihood [B, S], fp32 (fp64 if hidden
  // is); 0 where the label is kIgnoredLabel
  std::function<at::Tensor(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& labels)> loss;
  // all blocks, in order -> what to run, one after the other: a function may stand for several blocks
  std::function<std::vector<BlockForward>(const std::vector<BlockParts>& blocks)> arrange;
};

// One function for each block, by autograd.
[[nodiscard]] std::vector<BlockForward> arrange_plainly(const std::vector<BlockParts>& blocks);

inline constexpr int64_t kIgnoredLabel = -100;

struct Engines {
  LinearEngine linear = LinearEngine::kTorch;
  AttentionEngine attention = AttentionEngine::kLongfold;
  bool repeatable = true;        // attention_core()
  at::Device device = at::kCPU;  // where parameters are made; meta: for a dry run (memory/dry_run.h)
};
[[nodiscard]] Layers local_layers(const Engines& engines = {});

}  // namespace longfold::model
