// One transformer block: attention and MLP, each behind a norm, both added to the residual stream. In two parts, as
// BlockParts says: whoever arranges the blocks runs attention between them.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <memory>

#include "longfold/model/config.h"
#include "longfold/model/layers.h"
#include "longfold/model/norm.h"

namespace longfold::model {

class Attention : public torch::nn::Module {
 public:
  Attention(const ModelConfig& config, const Layers& layers);
  Qkv project(const at::Tensor& x, const BlockContext& context);
  at::Tensor finish(const at::Tensor& attended);  // [B, S, H, D] -> [B, S, hidden]

 private:
  int64_t head_size_, of_group_;  // of_group_: elements of a head of keys, its values and all its queries
  std::shared_ptr<Layer> query_key_value_, dense_;
};

class Mlp : public torch::nn::Module {
 public:
  Mlp(const ModelConfig& config, const Layers& layers);
  at::Tensor forward(const at::Tensor& x);

 private:
  std::string activation_;
  std::shared_ptr<Layer> gate_;  // of swiglu alone
  std::shared_ptr<Layer> dense_h_to_4h_, dense_4h_to_h_;
};

class Block : public torch::nn::Module {
 public:
  Block(const ModelConfig& config, const Layers& layers, int64_t index);

  // As in BlockParts.
  Qkv project(const at::Tensor& x, const BlockContext& context);
  at::Tensor finish(const at::Tensor& x, const at::Tensor& attended, const BlockContext& context);

 private:
  int64_t index_;
  bool parallel_residual_;
  std::shared_ptr<Norm> input_layernorm_, post_attention_layernorm_;
  std::shared_ptr<Attention> attention_;
  std::shared_ptr<Mlp> mlp_;
};

}  // namespace longfold::model
