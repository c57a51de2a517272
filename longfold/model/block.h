// One GPT-NeoX block: attention and MLP, each behind a layer norm, both added to the residual stream.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/normalization.h>

#include <memory>

#include "longfold/model/config.h"
#include "longfold/model/layers.h"

namespace longfold::model {

class Attention : public torch::nn::Module {
 public:
  Attention(const ModelConfig& config, const Layers& layers);
  at::Tensor forward(const at::Tensor& x, const RotaryTables& rotary);

 private:
  int64_t head_size_;
  decltype(Layers::attention) core_;
  std::shared_ptr<Layer> query_key_value_, dense_;
};

class Mlp : public torch::nn::Module {
 public:
  Mlp(const ModelConfig& config, const Layers& layers);
  at::Tensor forward(const at::Tensor& x);

 private:
  std::shared_ptr<Layer> dense_h_to_4h_, dense_4h_to_h_;
};

class Block : public torch::nn::Module {
 public:
  Block(const ModelConfig& config, const Layers& layers);
  at::Tensor forward(const at::Tensor& x, const RotaryTables& rotary);

 private:
  bool parallel_residual_;
  torch::nn::LayerNorm input_layernorm_ = nullptr, post_attention_layernorm_ = nullptr;
  std::shared_ptr<Attention> attention_;
  std::shared_ptr<Mlp> mlp_;
};

[[nodiscard]] torch::nn::LayerNorm make_layer_norm(const ModelConfig& config);

}  // namespace longfold::model
