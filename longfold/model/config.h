// The shape of a GPT-NeoX model (the architecture of GenSLM), as a recipe's [model] section.
#pragma once

#include <cstdint>
#include <string_view>

namespace longfold::model {

struct ModelConfig {
  int64_t vocab_size = 0;
  int64_t num_layers = 8;
  int64_t hidden_size = 512;
  int64_t num_heads = 8;
  int64_t ffn_size = 2048;
  double rotary_pct = 0.25;
  double rotary_base = 10000;
  double layer_norm_epsilon = 1e-5;
  bool parallel_residual = true;
  double init_std = 0.02;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("vocab_size", self.vocab_size, "number of different tokens; 0 = as many as the tokenizer has");
    visit("num_layers", self.num_layers, "number of transformer blocks");
    visit("hidden_size", self.hidden_size, "width of the residual stream");
    visit("num_heads", self.num_heads, "attention heads; divides hidden_size");
    visit("ffn_size", self.ffn_size, "width of the hidden layer of the MLP");
    visit("rotary_pct", self.rotary_pct, "leading part of each head that rotary embeddings turn, 0 to 1");
    visit("rotary_base", self.rotary_base, "base of the rotary wavelengths");
    visit("layer_norm_epsilon", self.layer_norm_epsilon, "added to the variance in layer norms");
    visit("parallel_residual", self.parallel_residual,
          "attention and MLP read the same input (else one after the other)");
    visit("init_std", self.init_std, "standard deviation of the initial weights");
  }

  friend bool operator==(const ModelConfig&, const ModelConfig&) = default;

  // Throws base::UserError with one line that names the key, as in "model.hidden_size 100 is not divisible by ...".
  // vocab_size may still be 0: whoever builds the model sets it.
  void validate() const;

  [[nodiscard]] int64_t head_size() const { return hidden_size / num_heads; }
  [[nodiscard]] int64_t rotary_size() const {
    return static_cast<int64_t>(static_cast<double>(head_size()) * rotary_pct);
  }
  [[nodiscard]] int64_t num_parameters() const;
};

}  // namespace longfold::model
