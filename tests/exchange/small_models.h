// A small model of each family and of its variants.
#pragma once

#include <vector>

#include "longfold/model/config.h"

namespace longfold::exchange {

inline std::vector<model::ModelConfig> small_models() {
  std::vector<model::ModelConfig> models;
  const auto add = [&](const char* family) -> model::ModelConfig& {
    model::ModelConfig config = model::named_config("", family);
    config.vocab_size = 11, config.num_layers = 2, config.hidden_size = 16, config.num_heads = 4, config.ffn_size = 12;
    if (config.family == "gpt-neox") config.rotary_pct = 0.5;
    if (config.has_learned_positions()) config.max_positions = 7;
    return models.emplace_back(config);
  };
  add("gpt-neox");
  auto& sequential = add("gpt-neox");
  sequential.parallel_residual = false, sequential.activation = "gelu", sequential.tie_embeddings = true;
  sequential.rotary_scaling = 4, sequential.rotary_base = 500;
  add("gpt2");
  add("gpt2").tie_embeddings = false;
  add("llama");
  auto& grouped = add("llama");
  grouped.num_kv_heads = 2, grouped.rotary_scaling = 4, grouped.linear_bias = true, grouped.tie_embeddings = true;
  return models;
}

}  // namespace longfold::exchange
