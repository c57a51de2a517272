#include "longfold/exchange/hugging_face/config.h"

#include <algorithm>
#include <optional>
#include <set>
#include <span>
#include <variant>

#include "longfold/base/error.h"
#include "longfold/base/fields.h"
#include "longfold/base/json.h"
#include "longfold/exchange/hugging_face/names.h"
#include "longfold/exchange/hugging_face/reader.h"

namespace longfold::exchange {
namespace {

using Json = nlohmann::ordered_json;
using model::ModelConfig;

// A key there that is a key of ours.
struct Key {
  std::string_view theirs;
  std::variant<int64_t ModelConfig::*, double ModelConfig::*, bool ModelConfig::*> ours;
  std::optional<Json> if_absent = {};  // also for null; nothing: it has to be there
};
// A key that has one value in all models of ours.
struct Fixed {
  std::string_view theirs;
  Json value;
  bool is_written = false;
  bool is_for_training = false;  // another value changes no logits: it is told, not refused
};
struct Keys {
  std::vector<Key> same;
  std::vector<Fixed> fixed;
  std::string_view longest, activation;
};

const Keys& keys_of(std::string_view family) {
  static const Keys kGptNeoX{
      {{"vocab_size", &ModelConfig::vocab_size},
       {"hidden_size", &ModelConfig::hidden_size},
       {"num_hidden_layers", &ModelConfig::num_layers},
       {"num_attention_heads", &ModelConfig::num_heads},
       {"intermediate_size", &ModelConfig::ffn_size},
       {"layer_norm_eps", &ModelConfig::norm_epsilon},
       {"use_parallel_residual", &ModelConfig::parallel_residual, true},
       {"initializer_range", &ModelConfig::init_std, 0.02},
       {"tie_word_embeddings", &ModelConfig::tie_embeddings, false}},
      {{"attention_bias", true, true}, {"attention_dropout", 0.0, true, true}, {"hidden_dropout", 0.0, true, true}},
      "max_position_embeddings",
      "hidden_act"};
  static const Keys kGpt2{{{"vocab_size", &ModelConfig::vocab_size},
                           {"n_embd", &ModelConfig::hidden_size},
                           {"n_layer", &ModelConfig::num_layers},
                           {"n_head", &ModelConfig::num_heads},
                           {"n_inner", &ModelConfig::ffn_size, 0},  // four times n_embd
                           {"n_positions", &ModelConfig::max_positions},
                           {"layer_norm_epsilon", &ModelConfig::norm_epsilon},
                           {"initializer_range", &ModelConfig::init_std, 0.02},
                           {"tie_word_embeddings", &ModelConfig::tie_embeddings, true}},
                          {{"attn_pdrop", 0.0, true, true},
                           {"embd_pdrop", 0.0, true, true},
                           {"resid_pdrop", 0.0, true, true},
                           {"scale_attn_weights", true},
                           {"scale_attn_by_inverse_layer_idx", false},
                           {"add_cross_attention", false}},
                          "n_positions",
                          "activation_function"};
  static const Keys kLlama{{{"vocab_size", &ModelConfig::vocab_size},
                            {"hidden_size", &ModelConfig::hidden_size},
                            {"num_hidden_layers", &ModelConfig::num_layers},
                            {"num_attention_heads", &ModelConfig::num_heads},
                            {"num_key_value_heads", &ModelConfig::num_kv_heads, 0},  // as many as num_attention_heads
                            {"intermediate_size", &ModelConfig::ffn_size},
                            {"rms_norm_eps", &ModelConfig::norm_epsilon},
                            {"attention_bias", &ModelConfig::linear_bias, false},
                            {"initializer_range", &ModelConfig::init_std, 0.02},
                            {"tie_word_embeddings", &ModelConfig::tie_embeddings, false}},
                           {{"attention_dropout", 0.0, true, true}},
                           "max_position_embeddings",
                           "hidden_act"};
  return family == "gpt2" ? kGpt2 : family == "llama" ? kLlama : kGptNeoX;
}

// Of no family here, whatever the model type: what other models have under these keys changes logits.
const std::vector<Fixed>& fixed_everywhere() {
  static const std::vector<Fixed> kFixed{{"sliding_window", nullptr},
                                         {"use_sliding_window", false},
                                         {"quantization_config", nullptr},
                                         {"is_encoder_decoder", false}};
  return kFixed;
}

struct Activation {
  std::string_view theirs, ours;
  bool is_llama = false;
};
// The first of those with our name is written.
constexpr std::array kActivations{Activation{"gelu_new", "gelu_tanh"},
                                  Activation{"gelu", "gelu"},
                                  Activation{"gelu_pytorch_tanh", "gelu_tanh"},
                                  Activation{"gelu_fast", "gelu_tanh"},
                                  Activation{"gelu_python", "gelu"},
                                  Activation{"silu", "swiglu", true},
                                  Activation{"swish", "swiglu", true}};

// Places of one rotary value: within rope_parameters or rope_scaling, and beside them.
struct RopeValue {
  std::string_view inner;
  std::vector<std::string_view> beside;
};
const std::vector<RopeValue>& rope_values() {
  static const std::vector<RopeValue> kValues{{"rope_theta", {"rope_theta", "rotary_emb_base"}},
                                              {"partial_rotary_factor", {"partial_rotary_factor", "rotary_pct"}},
                                              {"factor", {}}};
  return kValues;
}
constexpr std::array<std::string_view, 2> kRopes{"rope_parameters", "rope_scaling"};  // of version 5, of 4

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

const Family& family_in(const Reader& reader, const std::string& where) {
  std::vector<std::string> architectures, types;
  for (const Family& family : families()) {
    architectures.push_back("\"" + std::string(family.architecture) + "\"");
    types.push_back("\"" + std::string(family.model_type) + "\"");
  }
  const std::string expected = "one of " + base::join(types, ", ");
  const std::string type = reader.text("model_type", expected);
  const auto found = std::ranges::find(families(), type, &Family::model_type);
  if (found == families().end()) reader.refuse("model_type", expected);
  // Other models of the type have the same keys, and another head.
  const Json* given = reader.find("architectures");
  if (given != nullptr && *given != Json::array({found->architecture})) {
    const bool is_one = given->is_array() && given->size() == 1;
    throw base::UserError(where + "architectures is " + base::shown(is_one ? (*given)[0] : *given) + ", expected \"" +
                          std::string(found->architecture) + "\", as model_type is \"" + type + "\" (longfold reads " +
                          base::join(architectures, ", ") + ")");
  }
  return *found;
}

void read_same(const Reader& reader, const Keys& keys, ModelConfig& model) {
  for (const Key& key : keys.same) {
    std::visit(
        [&](auto member) {
          using Value = std::remove_reference_t<decltype(model.*member)>;
          if (key.if_absent && reader.find(key.theirs) == nullptr)
            model.*member = key.if_absent->get<Value>();
          else
            reader.read(key.theirs, model.*member);
        },
        key.ours);
  }
}

void check_fixed(const Reader& reader, std::span<const Fixed> fixed, std::vector<std::string>& notes) {
  for (const Fixed& key : fixed) {
    const Json* value = reader.find(key.theirs);
    if (value == nullptr || *value == key.value) continue;
    if (!key.is_for_training) reader.refuse(key.theirs, key.value.dump());
    notes.push_back(std::string(key.theirs) + " " + base::shown(*value) + " is not kept: training here has none");
  }
}

void read_activation(const Reader& reader, const Keys& keys, ModelConfig& model) {
  std::vector<std::string> names;
  const bool is_llama = model.family == "llama";
  for (const Activation& activation : kActivations) {
    if (activation.is_llama == is_llama) names.push_back("\"" + std::string(activation.theirs) + "\"");
  }
  const std::string expected = "one of " + base::join(names, ", ");
  const std::string text = reader.text(keys.activation, expected);
  const auto* found = std::ranges::find(kActivations, text, &Activation::theirs);
  if (found == kActivations.end() || found->is_llama != is_llama) reader.refuse(keys.activation, expected);
  model.activation = found->ours;
}

// One of kRopes: no other keys than those that are read, no other type than one that is known, which is returned.
std::string rope_type_in(const Json& rope, const std::string& where) {
  const Reader reader(rope, where);
  const std::string expected = "\"default\" or \"linear\"";
  std::string type;
  for (const auto& [key, value] : rope.items()) {
    if (value.is_null()) continue;
    if (key == "rope_type" || key == "type") {
      const std::string given = reader.text(key, expected);
      if ((given != "default" && given != "linear") || (!type.empty() && given != type)) reader.refuse(key, expected);
      type = given;
    } else if (std::ranges::find(rope_values(), key, &RopeValue::inner) == rope_values().end()) {
      reader.refuse(key, "no such key (rotary positions here have rope_theta and, of type \"linear\", a factor)");
    }
  }
  return type.empty() ? "default" : type;
}

using Ropes = std::vector<std::pair<std::string_view, Json>>;

// Where a value stands twice, both must be the same.
std::optional<double> rope_value(const Reader& reader, const Ropes& ropes, const RopeValue& value,
                                 const std::string& where) {
  std::optional<double> found;
  std::string first;
  const auto take = [&](const Reader& from, const std::string& prefix, std::string_view key) {
    if (from.find(key) == nullptr) return;
    const double number = from.number(key);
    if (found && number != *found) from.refuse(key, Json(*found).dump() + ", as " + first + " is");
    found = number;
    first = prefix + std::string(key);
  };
  for (const auto& [name, rope] : ropes) {
    const std::string prefix = std::string(name) + ".";
    take(Reader(rope, where + prefix), prefix, value.inner);
  }
  for (const std::string_view key : value.beside) take(reader, "", key);
  return found;
}

// Version 5 has all values in one object, 4 most of them beside it.
void read_rotary(const Reader& reader, const std::string& where, ModelConfig& model) {
  Ropes ropes;
  std::string type;
  for (const std::string_view name : kRopes) {
    const Json* rope = reader.find(name);
    if (rope == nullptr) continue;
    if (!rope->is_object()) reader.refuse(name, "an object or null");
    const std::string found = rope_type_in(*rope, where + std::string(name) + ".");
    if (!type.empty() && found != type) {
      throw base::UserError(where + "rope_parameters is of type \"" + type + "\", rope_scaling of \"" + found +
                            "\", expected one type");
    }
    type = found;
    ropes.emplace_back(name, *rope);
  }
  const bool is_llama = model.family == "llama";
  const auto value = [&](size_t i) { return rope_value(reader, ropes, rope_values()[i], where); };
  model.rotary_base = value(0).value_or(10'000);
  model.rotary_pct = value(1).value_or(is_llama ? 1 : 0.25);
  const std::optional<double> factor = value(2);
  if ((type == "linear") != factor.has_value()) {
    throw base::UserError(where + (type == "linear" ? "the rotary positions are linear, expected a factor"
                                                    : "the rotary positions have a factor, expected type \"linear\""));
  }
  model.rotary_scaling = factor.value_or(1);
  if (is_llama && model.rotary_pct != 1) {
    throw base::UserError(where + "partial_rotary_factor is " + Json(model.rotary_pct).dump() + ", expected 1");
  }
}

// A key that nobody reads, one letter away from one that has a default, is that key spelt wrongly.
void check_spelling(const Json& json, const Keys& keys, const std::string& where) {
  std::set<std::string_view> known{keys.longest, keys.activation, "architectures",
                                   "model_type", "head_dim",      "mlp_bias"};
  for (const Key& key : keys.same) known.insert(key.theirs);
  for (const Fixed& key : keys.fixed) known.insert(key.theirs);
  for (const Fixed& key : fixed_everywhere()) known.insert(key.theirs);
  known.insert(kRopes.begin(), kRopes.end());
  for (const RopeValue& value : rope_values()) known.insert(value.beside.begin(), value.beside.end());
  for (const auto& [key, unused] : json.items()) {
    if (known.contains(key)) continue;
    for (const std::string_view name : known) {
      if (name.size() != key.size()) continue;
      int64_t different = 0;
      for (size_t i = 0; i < key.size(); ++i) different += name[i] != key[i];
      if (different > 1) continue;
      throw base::UserError(where + "unknown key '" + base::printable(key) + "', did you mean '" + std::string(name) +
                            "'?");
    }
  }
}

void check_llama(const Reader& reader, const ModelConfig& model) {
  bool mlp_bias = false;
  if (reader.find("mlp_bias") != nullptr) reader.read("mlp_bias", mlp_bias);
  if (mlp_bias != model.linear_bias) {
    reader.refuse("mlp_bias", std::string(model.linear_bias ? "true" : "false") + ", as attention_bias is");
  }
  const Json* head = reader.find("head_dim");
  if (head != nullptr && *head != model.head_size()) {
    reader.refuse("head_dim", std::to_string(model.head_size()) + ", hidden_size over num_attention_heads");
  }
}

}  // namespace

Json hugging_face_config(const ModelConfig& config, int64_t longest) {
  require_structure(config);
  const Keys& keys = keys_of(config.family);
  const Family& family = family_of(config);
  Json json{{"architectures", Json::array({family.architecture})}, {"model_type", family.model_type}};
  for (const Key& key : keys.same) {
    std::visit([&](auto member) { json[std::string(key.theirs)] = config.*member; }, key.ours);
  }
  const auto* activation = std::ranges::find(kActivations, config.activation, &Activation::ours);
  json[std::string(keys.activation)] = activation->theirs;
  for (const Fixed& key : keys.fixed) {
    if (key.is_written) json[std::string(key.theirs)] = key.value;
  }
  json.update(Json{{"torch_dtype", "float32"}, {"bos_token_id", nullptr}, {"eos_token_id", nullptr}});
  if (config.family == "gpt2") return json;
  json[std::string(keys.longest)] = longest;
  if (config.family == "llama") {
    json.update(Json{{"num_key_value_heads", config.kv_heads()},
                     {"head_dim", config.head_size()},
                     {"mlp_bias", config.linear_bias}});
  }
  add_rotary(json, config);
  return json;
}

ReadConfig read_hugging_face_config(std::string_view text, const std::string& where) {
  const Json json = base::parse_object(text, where, "the file");
  const Reader reader(json, where);
  ReadConfig read;
  const Family& family = family_in(reader, where);
  const Keys& keys = keys_of(family.ours);
  check_spelling(json, keys, where);
  read.model = model::named_config("", family.ours);
  read_same(reader, keys, read.model);
  check_fixed(reader, keys.fixed, read.notes);
  check_fixed(reader, fixed_everywhere(), read.notes);
  read_activation(reader, keys, read.model);
  reader.read(keys.longest, read.longest);
  if (read.model.ffn_size == 0) read.model.ffn_size = 4 * read.model.hidden_size;
  if (family.ours != "gpt2") read_rotary(reader, where, read.model);
  try {
    read.model.validate();
  } catch (const base::UserError& error) {
    throw base::UserError(where + error.what());
  }
  if (family.ours == "llama") check_llama(reader, read.model);
  return read;
}

}  // namespace longfold::exchange
