#include "longfold/model/block.h"

#include <ATen/ops/gelu.h>

namespace longfold::model {

torch::nn::LayerNorm make_layer_norm(const ModelConfig& config) {
  return torch::nn::LayerNorm(torch::nn::LayerNormOptions({config.hidden_size}).eps(config.layer_norm_epsilon));
}

Attention::Attention(const ModelConfig& config, const Layers& layers)
    : head_size_(config.head_size()),
      core_(layers.attention),
      query_key_value_(
          register_module("query_key_value", layers.column_linear(config.hidden_size, 3 * config.hidden_size, true))),
      dense_(register_module("dense", layers.row_linear(config.hidden_size, config.hidden_size, true))) {}

at::Tensor Attention::forward(const at::Tensor& x, const RotaryTables& rotary) {
  const at::Tensor fused = query_key_value_->forward(x).unflatten(-1, {-1, 3 * head_size_});  // [B, S, H, 3 D]
  const Qkv qkv = split_and_rotate(fused, rotary);
  const at::Tensor out = core_(qkv.q, qkv.k, qkv.v);  // [B, S, H, D]
  return dense_->forward(out.flatten(2));
}

Mlp::Mlp(const ModelConfig& config, const Layers& layers)
    : dense_h_to_4h_(register_module("dense_h_to_4h", layers.column_linear(config.hidden_size, config.ffn_size, true))),
      dense_4h_to_h_(register_module("dense_4h_to_h", layers.row_linear(config.ffn_size, config.hidden_size, true))) {}

at::Tensor Mlp::forward(const at::Tensor& x) {
  return dense_4h_to_h_->forward(at::gelu(dense_h_to_4h_->forward(x), "tanh"));
}

Block::Block(const ModelConfig& config, const Layers& layers)
    : parallel_residual_(config.parallel_residual),
      input_layernorm_(register_module("input_layernorm", make_layer_norm(config))),
      post_attention_layernorm_(register_module("post_attention_layernorm", make_layer_norm(config))),
      attention_(register_module("attention", std::make_shared<Attention>(config, layers))),
      mlp_(register_module("mlp", std::make_shared<Mlp>(config, layers))) {}

at::Tensor Block::forward(const at::Tensor& x, const RotaryTables& rotary) {
  const at::Tensor after = x + attention_->forward(input_layernorm_(x), rotary);
  return after + mlp_->forward(post_attention_layernorm_(parallel_residual_ ? x : after));
}

}  // namespace longfold::model
