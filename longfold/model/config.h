// The shape of a decoder-only transformer, as a recipe's [model] section. A family names what its models have in
// common, a preset a family and sizes: both stand for keys below, which can be given besides.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace longfold::model {

struct ModelConfig {
  std::string preset = "";
  std::string family = "gpt-neox";
  int64_t vocab_size = 0;
  int64_t num_layers = 8;
  int64_t hidden_size = 512;
  int64_t num_heads = 8;
  int64_t num_kv_heads = 0;
  int64_t ffn_size = 2048;
  std::string activation = "gelu_tanh";
  std::string norm = "layer";
  double norm_epsilon = 1e-5;
  bool linear_bias = true;
  bool parallel_residual = true;
  bool tie_embeddings = false;
  std::string positions = "rotary";
  int64_t max_positions = 0;
  double rotary_pct = 0.25;
  double rotary_base = 10000;
  double rotary_scaling = 1;
  double init_std = 0.02;
  double dropout = 0;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("preset", self.preset, "sizes by name: genslm-25m, genslm-250m, genslm-2.5b, genslm-7.9b, genslm-25b, gpt2");
    visit("family", self.family, "gpt-neox, gpt2 or llama: the keys below that its models have in common");
    visit("vocab_size", self.vocab_size, "number of different tokens; 0 = as many as the tokenizer has");
    visit("num_layers", self.num_layers, "number of transformer blocks");
    visit("hidden_size", self.hidden_size, "width of the residual stream");
    visit("num_heads", self.num_heads, "attention heads; divides hidden_size");
    visit("num_kv_heads", self.num_kv_heads, "heads of keys and values, each for as many of queries; 0 = num_heads");
    visit("ffn_size", self.ffn_size, "width of the hidden layer of the MLP");
    visit("activation", self.activation, "gelu_tanh, gelu or swiglu");
    visit("norm", self.norm, "layer or rms");
    visit("norm_epsilon", self.norm_epsilon, "added to the variance in norms");
    visit("linear_bias", self.linear_bias, "whether linears in blocks have a bias");
    visit("parallel_residual", self.parallel_residual,
          "attention and MLP read the same input (else one after the other)");
    visit("tie_embeddings", self.tie_embeddings, "the head is the token embedding");
    visit("positions", self.positions, "rotary or learned");
    visit("max_positions", self.max_positions, "rows of the table of learned positions; 0 for rotary ones");
    visit("rotary_pct", self.rotary_pct, "leading part of each head that rotary embeddings turn, 0 to 1");
    visit("rotary_base", self.rotary_base, "base of the rotary wavelengths");
    visit("rotary_scaling", self.rotary_scaling, "what positions are divided by before they turn");
    visit("init_std", self.init_std, "standard deviation of the initial weights");
    visit("dropout", self.dropout,
          "part of the embeddings' and each layer's outputs that is zero in training; none within attention");
  }

  friend bool operator==(const ModelConfig&, const ModelConfig&) = default;

  // Throws base::UserError with one line that names the key, as in "model.hidden_size 100 is not divisible by ...".
  // vocab_size may still be 0: whoever builds the model sets it.
  void validate() const;

  [[nodiscard]] bool has_learned_positions() const { return positions == "learned"; }
  [[nodiscard]] int64_t head_size() const { return hidden_size / num_heads; }
  [[nodiscard]] int64_t kv_heads() const { return num_kv_heads > 0 ? num_kv_heads : num_heads; }
  [[nodiscard]] int64_t rotary_size() const {
    return static_cast<int64_t>(static_cast<double>(head_size()) * rotary_pct);
  }
  [[nodiscard]] int64_t num_parameters() const;
};

// Sets the keys that these two names stand for. Empty: not given. A family given beside a preset takes the place of the
// preset's own. Throws base::UserError for a name that is not known.
void apply_names(ModelConfig& to, std::string_view preset, std::string_view family);
[[nodiscard]] ModelConfig named_config(std::string_view preset, std::string_view family);  // besides, the defaults

}  // namespace longfold::model
