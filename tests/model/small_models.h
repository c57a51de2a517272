// Models of each family that are small, yet have every part; with parameters of which each one matters.
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "longfold/model/transformer.h"

namespace longfold::model {

// 2 layers of 6 heads of 8; learned positions are below 40.
inline ModelConfig of_family(const std::string& family, const std::function<void(ModelConfig&)>& change = {}) {
  ModelConfig config = named_config("", family);
  config.vocab_size = 11, config.num_layers = 2, config.hidden_size = 48, config.num_heads = 6, config.ffn_size = 40;
  if (config.has_learned_positions())
    config.max_positions = 40;
  else
    config.rotary_base = 100;
  if (change) change(config);
  return config;
}

// Every parameter matters and all values inside are O(1).
inline void randomise(TransformerImpl& model) {
  const at::NoGradGuard no_grad;
  at::manual_seed(7);
  for (auto& entry : model.named_parameters()) {
    at::Tensor& value = entry.value();
    if (value.dim() == 2)
      value.normal_(0, entry.key().ends_with("embed_in.weight") ? 1 : 1 / std::sqrt(value.size(1)));
    else if (entry.key().ends_with(".bias"))
      value.normal_(0, 0.5);
    else
      value.normal_(1, 0.3);
  }
}

// Blocks whose attention is f(q, k, v, documents).
template <class F>
auto with_attention(F f) {
  return [f](const std::vector<BlockParts>& blocks) {
    std::vector<BlockForward> all;
    for (const BlockParts& block : blocks) {
      all.emplace_back([block, f](const at::Tensor& x, const BlockContext& context) {
        const Qkv qkv = block.project(x, context);
        return block.finish(x, f(qkv.q, qkv.k, qkv.v, context.documents), context);
      });
    }
    return all;
  };
}

// The largest difference, in units of the largest expected value.
inline double relative(const at::Tensor& got, const at::Tensor& expected) {
  return ((got - expected).abs().max() / expected.abs().max()).item<double>();
}

}  // namespace longfold::model
