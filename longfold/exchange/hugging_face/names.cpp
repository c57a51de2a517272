#include "longfold/exchange/hugging_face/names.h"

#include <ATen/ops/cat.h>

#include <algorithm>
#include <array>
#include <map>
#include <stdexcept>

namespace longfold::exchange {
namespace {

using model::ModelConfig;

enum class Kind : uint8_t { kNorm, kLinear, kTable };  // a table has no bias
enum class Size : uint8_t { kVocab, kPositions, kHidden, kFused, kFfn };

struct Place {
  std::string_view name;  // empty: no model of the family has it
  Stored stored = Stored::kAsHere;
};
struct Module {
  std::string_view ours;
  Kind kind;
  Size rows, columns;
  std::array<Place, 3> theirs;  // in the order of families()
};

constexpr Stored kTransposed = Stored::kTransposed;
constexpr std::array<Module, 7> kOfBlock{{
    {"input_layernorm",
     Kind::kNorm,
     Size::kHidden,
     Size::kHidden,
     {{{"input_layernorm"}, {"ln_1"}, {"input_layernorm"}}}},
    {"post_attention_layernorm",
     Kind::kNorm,
     Size::kHidden,
     Size::kHidden,
     {{{"post_attention_layernorm"}, {"ln_2"}, {"post_attention_layernorm"}}}},
    {"attention.query_key_value",
     Kind::kLinear,
     Size::kFused,
     Size::kHidden,
     {{{"attention.query_key_value"}, {"attn.c_attn", Stored::kJoinedTransposed}, {"self_attn", Stored::kSplit}}}},
    {"attention.dense",
     Kind::kLinear,
     Size::kHidden,
     Size::kHidden,
     {{{"attention.dense"}, {"attn.c_proj", kTransposed}, {"self_attn.o_proj"}}}},
    {"mlp.gate", Kind::kLinear, Size::kFfn, Size::kHidden, {{{}, {}, {"mlp.gate_proj"}}}},
    {"mlp.dense_h_to_4h",
     Kind::kLinear,
     Size::kFfn,
     Size::kHidden,
     {{{"mlp.dense_h_to_4h"}, {"mlp.c_fc", kTransposed}, {"mlp.up_proj"}}}},
    {"mlp.dense_4h_to_h",
     Kind::kLinear,
     Size::kHidden,
     Size::kFfn,
     {{{"mlp.dense_4h_to_h"}, {"mlp.c_proj", kTransposed}, {"mlp.down_proj"}}}},
}};
constexpr std::array<Module, 2> kBeforeBlocks{{
    {"gpt_neox.embed_in",
     Kind::kTable,
     Size::kVocab,
     Size::kHidden,
     {{{"gpt_neox.embed_in"}, {"transformer.wte"}, {"model.embed_tokens"}}}},
    {"gpt_neox.embed_positions", Kind::kTable, Size::kPositions, Size::kHidden, {{{}, {"transformer.wpe"}, {}}}},
}};
constexpr Module kFinalNorm{"gpt_neox.final_layer_norm",
                            Kind::kNorm,
                            Size::kHidden,
                            Size::kHidden,
                            {{{"gpt_neox.final_layer_norm"}, {"transformer.ln_f"}, {"model.norm"}}}};
constexpr Module kHead{
    "embed_out", Kind::kTable, Size::kVocab, Size::kHidden, {{{"embed_out"}, {"lm_head"}, {"lm_head"}}}};
constexpr std::array<std::string_view, 3> kProjections{".q_proj", ".k_proj", ".v_proj"};

int64_t size_in(const ModelConfig& config, Size size) {
  switch (size) {
    case Size::kVocab:
      return config.vocab_size;
    case Size::kPositions:
      return config.max_positions;
    case Size::kHidden:
      return config.hidden_size;
    case Size::kFused:
      return (config.num_heads + 2 * config.kv_heads()) * config.head_size();
    case Size::kFfn:
      return config.ffn_size;
  }
  throw std::logic_error("[names] no such size");
}

size_t column_of(const Family& family) {
  return static_cast<size_t>(&family - families().data());
}

// Appends weight and bias of a module; `ours` and `theirs` come before its names.
void add(std::vector<Parameter>& to, const ModelConfig& config, const Module& module, const std::string& ours = "",
         const std::string& theirs = "") {
  const Place& place = module.theirs[column_of(family_of(config))];
  const auto add_one = [&](const char* end, std::vector<int64_t> shape) {
    Parameter& parameter = to.emplace_back();
    parameter.name = ours + std::string(module.ours) + end;
    parameter.shape = std::move(shape);
    parameter.stored = place.stored;
    const std::string name = theirs + std::string(place.name);
    if (place.stored != Stored::kSplit) {
      parameter.theirs = {name + end};
      return;
    }
    for (const std::string_view projection : kProjections) {
      parameter.theirs.push_back(name + std::string(projection) + end);
    }
  };
  if (place.name.empty()) return;
  const int64_t rows = size_in(config, module.rows), columns = size_in(config, module.columns);
  const bool is_norm = module.kind == Kind::kNorm;
  add_one(".weight", is_norm ? std::vector{rows} : std::vector{rows, columns});
  if (is_norm ? config.norm == "layer" : module.kind == Kind::kLinear && config.linear_bias) add_one(".bias", {rows});
}

// Queries, keys and values of a fused projection, whose rows are [KV head, (its queries ..., k, v), D].
std::vector<at::Tensor> split_rows(const ModelConfig& config, const at::Tensor& fused) {
  const int64_t D = config.head_size(), queries = config.num_heads / config.kv_heads() * D;
  std::vector<at::Tensor> parts =
      fused.unflatten(0, {config.kv_heads(), queries + 2 * D}).split_with_sizes({queries, D, D}, 1);
  for (at::Tensor& part : parts) part = part.flatten(0, 1);
  return parts;
}

at::Tensor join_rows(const ModelConfig& config, std::span<const at::Tensor> parts) {
  std::vector<at::Tensor> by_head;
  for (const at::Tensor& part : parts) by_head.push_back(part.unflatten(0, {config.kv_heads(), -1}));
  return at::cat(by_head, 1).flatten(0, 1);
}

at::Tensor transposed(const at::Tensor& value) {
  return value.dim() == 2 ? value.t() : value;
}

}  // namespace

const std::vector<Family>& families() {
  static const std::vector<Family> kFamilies{
      {"gpt-neox",
       "GPTNeoXForCausalLM",
       "gpt_neox",
       "gpt_neox.",
       "gpt_neox.layers.",
       {".attention.bias", ".attention.masked_bias", ".attention.rotary_emb.inv_freq"},
       {{"lm_head.", "embed_out."}}},
      {"gpt2", "GPT2LMHeadModel", "gpt2", "transformer.", "transformer.h.", {".attn.bias", ".attn.masked_bias"}},
      {"llama", "LlamaForCausalLM", "llama", "model.", "model.layers.", {".self_attn.rotary_emb.inv_freq"}},
  };
  return kFamilies;
}

const Family& family_of(const ModelConfig& config) {
  const auto found = std::ranges::find(families(), config.family, &Family::ours);
  if (found == families().end()) throw std::logic_error("[names] no family '" + config.family + "'");
  return *found;
}

std::vector<Parameter> parameters_of(const ModelConfig& config) {
  const Family& family = family_of(config);
  std::vector<Parameter> parameters;
  for (const Module& module : kBeforeBlocks) add(parameters, config, module);
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string number = std::to_string(i) + ".";
    for (const Module& module : kOfBlock) {
      add(parameters, config, module, "gpt_neox.layers." + number, std::string(family.blocks) + number);
    }
  }
  add(parameters, config, kFinalNorm);
  if (!config.tie_embeddings) add(parameters, config, kHead);
  return parameters;
}

std::vector<at::Tensor> to_theirs(const ModelConfig& config, Stored stored, const at::Tensor& ours) {
  switch (stored) {
    case Stored::kAsHere:
      return {ours};
    case Stored::kTransposed:
      return {transposed(ours)};
    case Stored::kSplit:
      return split_rows(config, ours);
    case Stored::kJoinedTransposed:
      return {transposed(at::cat(split_rows(config, ours)))};
  }
  throw std::logic_error("[names] no such way to store");
}

at::Tensor to_ours(const ModelConfig& config, Stored stored, std::span<const at::Tensor> theirs) {
  const int64_t D = config.head_size(), keys = config.kv_heads() * D;
  switch (stored) {
    case Stored::kAsHere:
      return theirs[0];
    case Stored::kTransposed:
      return transposed(theirs[0]);
    case Stored::kSplit:
      return join_rows(config, theirs);
    case Stored::kJoinedTransposed:
      return join_rows(config, transposed(theirs[0]).split_with_sizes({config.num_heads * D, keys, keys}));
  }
  throw std::logic_error("[names] no such way to store");
}

Tensors to_theirs(const ModelConfig& config, const Tensors& parameters) {
  std::map<std::string, Parameter> by_name;
  for (Parameter& parameter : parameters_of(config)) by_name.emplace(parameter.name, parameter);
  Tensors result;
  for (const auto& [name, value] : parameters) {
    const auto found = by_name.find(name);
    if (found == by_name.end()) throw std::logic_error("[names] no name for the parameter " + name);
    const std::vector<at::Tensor> parts = to_theirs(config, found->second.stored, value);
    for (size_t i = 0; i < parts.size(); ++i) result.push_back({found->second.theirs[i], parts[i]});
  }
  return result;
}

}  // namespace longfold::exchange
