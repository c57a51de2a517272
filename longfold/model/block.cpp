#include "longfold/model/block.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/silu.h>

namespace longfold::model {

Attention::Attention(const ModelConfig& config, const Layers& layers)
    : head_size_(config.head_size()),
      of_group_((config.num_heads / config.kv_heads() + 2) * config.head_size()),
      query_key_value_(
          register_module("query_key_value",
                          layers.column_linear(config.hidden_size, config.kv_heads() * of_group_, config.linear_bias))),
      dense_(register_module("dense", layers.row_linear(config.hidden_size, config.hidden_size, config.linear_bias))) {}

Qkv Attention::project(const at::Tensor& x, const BlockContext& context) {
  const at::Tensor fused = query_key_value_->forward(x).unflatten(-1, {-1, of_group_});  // [B, S, KV heads, of_group_]
  return split_and_rotate(fused, head_size_, context.rotary);
}

at::Tensor Attention::finish(const at::Tensor& attended) {
  return dense_->forward(attended.flatten(2));
}

Mlp::Mlp(const ModelConfig& config, const Layers& layers) : activation_(config.activation) {
  const auto up = [&] { return layers.column_linear(config.hidden_size, config.ffn_size, config.linear_bias); };
  if (activation_ == "swiglu") gate_ = register_module("gate", up());
  dense_h_to_4h_ = register_module("dense_h_to_4h", up());
  dense_4h_to_h_ =
      register_module("dense_4h_to_h", layers.row_linear(config.ffn_size, config.hidden_size, config.linear_bias));
}

at::Tensor Mlp::forward(const at::Tensor& x) {
  const at::Tensor up = dense_h_to_4h_->forward(x);
  if (gate_ != nullptr) return dense_4h_to_h_->forward(at::silu(gate_->forward(x)) * up);
  return dense_4h_to_h_->forward(at::gelu(up, activation_ == "gelu_tanh" ? "tanh" : "none"));
}

Block::Block(const ModelConfig& config, const Layers& layers, int64_t index)
    : index_(index),
      parallel_residual_(config.parallel_residual),
      input_layernorm_(register_module("input_layernorm", std::make_shared<Norm>(config, layers.device))),
      post_attention_layernorm_(
          register_module("post_attention_layernorm", std::make_shared<Norm>(config, layers.device))),
      attention_(register_module("attention", std::make_shared<Attention>(config, layers))),
      mlp_(register_module("mlp", std::make_shared<Mlp>(config, layers))) {}

Qkv Block::project(const at::Tensor& x, const BlockContext& context) {
  return attention_->project(input_layernorm_->forward(x), context);
}

at::Tensor Block::finish(const at::Tensor& x, const at::Tensor& attended, const BlockContext& context) {
  const Dropout drop = context.dropout.of_layer(index_);
  const at::Tensor after = x + drop(attention_->finish(attended), Dropout::Place::kAttention);
  return after +
         drop(mlp_->forward(post_attention_layernorm_->forward(parallel_residual_ ? x : after)), Dropout::Place::kMlp);
}

}  // namespace longfold::model
