#include "longfold/exchange/hugging_face.h"

#include <ATen/ops/cat.h>

#include <algorithm>
#include <stdexcept>
#include <string_view>

#include "longfold/base/error.h"
#include "longfold/base/fields.h"

namespace longfold::exchange {
namespace {

using Json = nlohmann::ordered_json;
using model::ModelConfig;

// How the end of a parameter's name, "weight" or "bias" left out, and its value change.
enum class Change : uint8_t {
  kNone,
  kTransposed,        // weights [in, out]
  kSplit,             // into queries, keys and values, each a linear of its own
  kJoinedTransposed,  // all queries, then all keys, then all values; weights [in, out]
};
struct Rule {
  std::string_view ours, theirs;
  Change change = Change::kNone;
};
struct Names {
  std::string_view block;  // before a block's number
  std::vector<Rule> of_block, others;
};

const Names& names_of(std::string_view family) {
  static const Names kGptNeoX{"gpt_neox.layers.",
                              {{"input_layernorm", "input_layernorm"},
                               {"post_attention_layernorm", "post_attention_layernorm"},
                               {"attention.query_key_value", "attention.query_key_value"},
                               {"attention.dense", "attention.dense"},
                               {"mlp.dense_h_to_4h", "mlp.dense_h_to_4h"},
                               {"mlp.dense_4h_to_h", "mlp.dense_4h_to_h"}},
                              {{"gpt_neox.embed_in", "gpt_neox.embed_in"},
                               {"gpt_neox.final_layer_norm", "gpt_neox.final_layer_norm"},
                               {"embed_out", "embed_out"}}};
  static const Names kGpt2{"transformer.h.",
                           {{"input_layernorm", "ln_1"},
                            {"post_attention_layernorm", "ln_2"},
                            {"attention.query_key_value", "attn.c_attn", Change::kJoinedTransposed},
                            {"attention.dense", "attn.c_proj", Change::kTransposed},
                            {"mlp.dense_h_to_4h", "mlp.c_fc", Change::kTransposed},
                            {"mlp.dense_4h_to_h", "mlp.c_proj", Change::kTransposed}},
                           {{"gpt_neox.embed_in", "transformer.wte"},
                            {"gpt_neox.embed_positions", "transformer.wpe"},
                            {"gpt_neox.final_layer_norm", "transformer.ln_f"},
                            {"embed_out", "lm_head"}}};
  static const Names kLlama{"model.layers.",
                            {{"input_layernorm", "input_layernorm"},
                             {"post_attention_layernorm", "post_attention_layernorm"},
                             {"attention.query_key_value", "self_attn", Change::kSplit},
                             {"attention.dense", "self_attn.o_proj"},
                             {"mlp.gate", "mlp.gate_proj"},
                             {"mlp.dense_h_to_4h", "mlp.up_proj"},
                             {"mlp.dense_4h_to_h", "mlp.down_proj"}},
                            {{"gpt_neox.embed_in", "model.embed_tokens"},
                             {"gpt_neox.final_layer_norm", "model.norm"},
                             {"embed_out", "lm_head"}}};
  return family == "gpt2" ? kGpt2 : family == "llama" ? kLlama : kGptNeoX;
}

constexpr std::string_view kOurBlock = "gpt_neox.layers.";

// Queries, keys and values of a fused projection, whose rows are [KV head, (its queries ..., k, v), D].
std::vector<at::Tensor> split_rows(const ModelConfig& config, const at::Tensor& fused) {
  const int64_t D = config.head_size(), queries = config.num_heads / config.kv_heads() * D;
  std::vector<at::Tensor> parts =
      fused.unflatten(0, {config.kv_heads(), queries + 2 * D}).split_with_sizes({queries, D, D}, 1);
  for (at::Tensor& part : parts) part = part.flatten(0, 1);
  return parts;
}

at::Tensor transposed(const at::Tensor& value) {
  return value.dim() == 2 ? value.t() : value;
}

void add(Tensors& to, const ModelConfig& config, const Rule& rule, const std::string& before, const std::string& end,
         const at::Tensor& value) {
  const std::string name = before + std::string(rule.theirs);
  if (rule.change == Change::kSplit) {
    const std::vector<at::Tensor> parts = split_rows(config, value);
    const char* const projections[] = {".q_proj", ".k_proj", ".v_proj"};
    for (size_t i = 0; i < parts.size(); ++i) to.push_back({name + projections[i] + end, parts[i]});
  } else if (rule.change == Change::kJoinedTransposed) {
    to.push_back({name + end, transposed(at::cat(split_rows(config, value)))});
  } else {
    to.push_back({name + end, rule.change == Change::kTransposed ? transposed(value) : value});
  }
}

// What all models of a family have there.
void require(const ModelConfig& config, bool fits, const std::string& key, const std::string& expected) {
  if (fits) return;
  const Json value = base::to_json(config)[key];
  throw base::UserError("cannot export: model." + key + " is " + value.dump() + ", a model of family " + config.family +
                        " has " + expected + " there");
}

void require_structure(const ModelConfig& config) {
  const ModelConfig family = model::named_config("", config.family);
  const Json has = base::to_json(config), expected = base::to_json(family);
  for (const char* key : {"norm", "parallel_residual", "positions"}) {
    if (config.family == "gpt-neox" && std::string_view(key) == "parallel_residual") continue;  // a key of theirs
    require(config, has[key] == expected[key], key, expected[key].dump());
  }
  if (config.family == "llama") {
    require(config, config.activation == "swiglu", "activation", "\"swiglu\"");
    require(config, config.rotary_pct == 1, "rotary_pct", "1");
    return;
  }
  require(config, config.activation != "swiglu", "activation", "\"gelu\" or \"gelu_tanh\"");
  require(config, config.linear_bias, "linear_bias", "true");
  require(config, config.kv_heads() == config.num_heads, "num_kv_heads", "as many as num_heads");
}

// For transformers 5, and with the keys that 4 has in its place.
void add_rotary(Json& json, const ModelConfig& config) {
  const bool is_scaled = config.rotary_scaling != 1;
  Json rope{{"rope_type", is_scaled ? "linear" : "default"}, {"rope_theta", config.rotary_base}};
  if (is_scaled) rope["factor"] = config.rotary_scaling;
  if (config.family == "gpt-neox") rope["partial_rotary_factor"] = config.rotary_pct;
  json["rope_parameters"] = rope;
  if (config.family == "gpt-neox") {
    json["rotary_pct"] = config.rotary_pct;
    json["rotary_emb_base"] = config.rotary_base;
  } else {
    json["rope_theta"] = config.rotary_base;
  }
  if (is_scaled)
    json["rope_scaling"] = {{"type", "linear"}, {"rope_type", "linear"}, {"factor", config.rotary_scaling}};
}

}  // namespace

Json hugging_face_config(const ModelConfig& config, int64_t longest) {
  require_structure(config);
  const std::string gelu = config.activation == "gelu" ? "gelu" : "gelu_new";
  Json json{{"vocab_size", config.vocab_size},
            {"initializer_range", config.init_std},
            {"tie_word_embeddings", config.tie_embeddings},
            {"torch_dtype", "float32"},
            {"bos_token_id", nullptr},
            {"eos_token_id", nullptr}};
  if (config.family == "gpt2") {
    json.update(Json{{"architectures", {"GPT2LMHeadModel"}},
                     {"model_type", "gpt2"},
                     {"n_embd", config.hidden_size},
                     {"n_layer", config.num_layers},
                     {"n_head", config.num_heads},
                     {"n_inner", config.ffn_size},
                     {"n_positions", config.max_positions},
                     {"activation_function", gelu},
                     {"layer_norm_epsilon", config.norm_epsilon},
                     {"attn_pdrop", 0.0},
                     {"embd_pdrop", 0.0},
                     {"resid_pdrop", 0.0}});
    return json;
  }
  json.update(Json{{"hidden_size", config.hidden_size},
                   {"num_hidden_layers", config.num_layers},
                   {"num_attention_heads", config.num_heads},
                   {"intermediate_size", config.ffn_size},
                   {"max_position_embeddings", longest},
                   {"attention_bias", config.linear_bias},
                   {"attention_dropout", 0.0}});
  if (config.family == "llama") {
    json.update(Json{{"architectures", {"LlamaForCausalLM"}},
                     {"model_type", "llama"},
                     {"num_key_value_heads", config.kv_heads()},
                     {"head_dim", config.head_size()},
                     {"hidden_act", "silu"},
                     {"rms_norm_eps", config.norm_epsilon},
                     {"mlp_bias", config.linear_bias}});
  } else {
    json.update(Json{{"architectures", {"GPTNeoXForCausalLM"}},
                     {"model_type", "gpt_neox"},
                     {"hidden_act", gelu},
                     {"layer_norm_eps", config.norm_epsilon},
                     {"use_parallel_residual", config.parallel_residual},
                     {"hidden_dropout", 0.0}});
  }
  add_rotary(json, config);
  return json;
}

Tensors hugging_face_tensors(const ModelConfig& config, const Tensors& parameters) {
  require_structure(config);
  const Names& names = names_of(config.family);
  Tensors result;
  for (const auto& [name, value] : parameters) {
    const bool in_block = name.starts_with(kOurBlock);
    const size_t number = in_block ? name.find('.', kOurBlock.size()) + 1 : 0;  // where the rest begins
    const size_t dot = name.rfind('.');
    const std::string before =
        in_block ? std::string(names.block) + name.substr(kOurBlock.size(), number - kOurBlock.size()) : "";
    const std::string module = name.substr(number, dot - number), end = name.substr(dot);
    const std::vector<Rule>& rules = in_block ? names.of_block : names.others;
    const auto rule = std::ranges::find(rules, module, &Rule::ours);
    if (rule == rules.end()) throw std::logic_error("[hugging_face] no name for the parameter " + name);
    add(result, config, *rule, before, end, value);
  }
  return result;
}

}  // namespace longfold::exchange
