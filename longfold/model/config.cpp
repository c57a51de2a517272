#include "longfold/model/config.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "longfold/base/error.h"
#include "longfold/base/fields.h"

namespace longfold::model {
namespace {

std::string text(double value) {
  return std::isfinite(value) ? nlohmann::json(value).dump() : std::to_string(value);  // JSON has no infinity
}

void require(bool fine, const std::string& message) {
  if (!fine) throw base::UserError("model." + message);
}

constexpr int64_t kLargestSize = int64_t{1} << 31;  // far beyond use, and such that products of two fit

void require_below_largest(std::string_view key, int64_t value) {
  require(value <= kLargestSize,
          std::string(key) + " is " + std::to_string(value) + ", expected at most " + std::to_string(kLargestSize));
}

void require_positive(std::string_view key, int64_t value) {
  require(value > 0, std::string(key) + " is " + std::to_string(value) + ", expected at least 1");
  require_below_largest(key, value);
}

void require_one_of(std::string_view key, std::string_view value, std::span<const std::string> names) {
  require(std::ranges::find(names, value) != names.end(),
          std::string(key) + " is '" + std::string(value) + "', expected one of " +
              base::join(std::vector(names.begin(), names.end()), ", "));
}

struct Family {
  std::string name;
  std::string activation, norm;
  bool linear_bias, parallel_residual, tie_embeddings;
  std::string positions;
  int64_t max_positions;
  double rotary_pct;

  void apply(ModelConfig& to) const {
    to.family = name;
    to.activation = activation, to.norm = norm;
    to.linear_bias = linear_bias, to.parallel_residual = parallel_residual, to.tie_embeddings = tie_embeddings;
    to.positions = positions, to.max_positions = max_positions, to.rotary_pct = rotary_pct;
  }
};

const std::vector<Family>& families() {
  static const std::vector<Family> kFamilies{
      {"gpt-neox", "gelu_tanh", "layer", true, true, false, "rotary", 0, 0.25},
      {"gpt2", "gelu_tanh", "layer", true, false, true, "learned", 1024, 0},
      {"llama", "swiglu", "rms", false, false, false, "rotary", 0, 1},
  };
  return kFamilies;
}

struct Preset {
  std::string name, family;
  int64_t num_layers, hidden_size, num_heads, ffn_size;
};

// GenSLM (Zvyagin et al. 2022). Its 250M has a width of 1840 there, heads of 115, and its 25B one of 8196, which 64
// heads do not divide. GPT-2 (Radford et al. 2019), the smallest one.
const std::vector<Preset>& presets() {
  static const std::vector<Preset> kPresets{
      {"genslm-25m", "gpt-neox", 8, 512, 8, 2048},     {"genslm-250m", "gpt-neox", 12, 1792, 16, 2048},
      {"genslm-2.5b", "gpt-neox", 28, 3840, 32, 4096}, {"genslm-7.9b", "gpt-neox", 50, 5120, 64, 5120},
      {"genslm-25b", "gpt-neox", 64, 8192, 64, 8000},  {"gpt2", "gpt2", 12, 768, 12, 3072},
  };
  return kPresets;
}

template <class Named>
std::vector<std::string> names_of(const std::vector<Named>& all) {
  std::vector<std::string> names;
  for (const Named& one : all) names.push_back(one.name);
  return names;
}

template <class Named>
const Named& find(std::string_view key, const std::vector<Named>& all, std::string_view name) {
  require_one_of(key, name, names_of(all));
  return *std::ranges::find(all, name, &Named::name);
}

}  // namespace

void apply_names(ModelConfig& to, std::string_view preset, std::string_view family) {
  if (!preset.empty()) {
    const Preset& sizes = find("preset", presets(), preset);
    to.preset = sizes.name;
    to.num_layers = sizes.num_layers, to.hidden_size = sizes.hidden_size;
    to.num_heads = sizes.num_heads, to.num_kv_heads = 0, to.ffn_size = sizes.ffn_size;
    if (family.empty()) family = sizes.family;
  }
  if (!family.empty()) find("family", families(), family).apply(to);
}

ModelConfig named_config(std::string_view preset, std::string_view family) {
  ModelConfig config;
  apply_names(config, preset, family);
  return config;
}

void ModelConfig::validate() const {
  if (!preset.empty()) require_one_of("preset", preset, names_of(presets()));
  require_one_of("family", family, names_of(families()));
  require(vocab_size >= 0, "vocab_size is " + std::to_string(vocab_size) +
                               ", expected at least 1, or 0 for as many as the tokenizer has");
  require_below_largest("vocab_size", vocab_size);
  require_positive("num_layers", num_layers);
  require_positive("hidden_size", hidden_size);
  require_positive("num_heads", num_heads);
  require_positive("ffn_size", ffn_size);
  require(hidden_size % num_heads == 0, "hidden_size " + std::to_string(hidden_size) +
                                            " is not divisible by model.num_heads " + std::to_string(num_heads));
  require(num_kv_heads >= 0,
          "num_kv_heads is " + std::to_string(num_kv_heads) + ", expected at least 1, or 0 for as many as num_heads");
  require(num_heads % kv_heads() == 0, "num_heads " + std::to_string(num_heads) +
                                           " is not divisible by model.num_kv_heads " + std::to_string(kv_heads()));
  require_one_of("activation", activation, std::vector<std::string>{"gelu_tanh", "gelu", "swiglu"});
  require_one_of("norm", norm, std::vector<std::string>{"layer", "rms"});
  require(norm_epsilon > 0, "norm_epsilon is " + text(norm_epsilon) + ", expected more than 0");
  require_one_of("positions", positions, std::vector<std::string>{"rotary", "learned"});
  if (has_learned_positions()) {
    require_positive("max_positions", max_positions);
    require(rotary_pct == 0, "rotary_pct is " + text(rotary_pct) + ", expected 0 where model.positions is 'learned'");
    const auto require_unused = [](const char* key, double value, double unused) {
      require(value == unused, std::string(key) + " is " + text(value) + ", expected " + text(unused) +
                                   " where model.positions is 'learned'");
    };
    require_unused("rotary_base", rotary_base, ModelConfig{}.rotary_base);
    require_unused("rotary_scaling", rotary_scaling, 1);
  } else {
    require(max_positions == 0, "max_positions is " + std::to_string(max_positions) +
                                    ", expected 0 where model.positions is 'rotary': those have no end");
  }
  require(rotary_pct >= 0 && rotary_pct <= 1, "rotary_pct is " + text(rotary_pct) + ", expected 0 to 1");
  require(rotary_size() % 2 == 0, "rotary_pct " + text(rotary_pct) + " of a head of " + std::to_string(head_size()) +
                                      " turns " + std::to_string(rotary_size()) +
                                      " dimensions, expected an even number");
  require(has_learned_positions() || rotary_size() > 0,
          "rotary_pct " + text(rotary_pct) + " of a head of " + std::to_string(head_size()) +
              " turns none of its dimensions, expected 2 or more: the model would know no positions");
  require(rotary_base > 0, "rotary_base is " + text(rotary_base) + ", expected more than 0");
  require(rotary_scaling > 0 && std::isfinite(rotary_scaling),
          "rotary_scaling is " + text(rotary_scaling) + ", expected more than 0");
  require(init_std > 0, "init_std is " + text(init_std) + ", expected more than 0");
  require(dropout >= 0 && dropout < 1, "dropout is " + text(dropout) + ", expected 0 or more and less than 1");
}

int64_t ModelConfig::num_parameters() const {
  const int64_t h = hidden_size, bias = linear_bias ? 1 : 0;
  const auto linear = [&](int64_t in, int64_t out) { return in * out + bias * out; };
  const int64_t norm_size = norm == "layer" ? 2 * h : h;
  const int64_t attention = linear(h, (num_heads + 2 * kv_heads()) * head_size()) + linear(h, h);
  const int64_t mlp = linear(h, ffn_size) * (activation == "swiglu" ? 2 : 1) + linear(ffn_size, h);
  const int64_t embeddings = vocab_size * h * (tie_embeddings ? 1 : 2) + max_positions * h;
  return embeddings + norm_size + num_layers * (attention + mlp + 2 * norm_size);
}

}  // namespace longfold::model
