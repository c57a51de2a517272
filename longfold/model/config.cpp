#include "longfold/model/config.h"

#include <array>
#include <string>

#include "longfold/base/error.h"
#include "longfold/base/fields.h"
#include "longfold/base/text.h"

namespace longfold::model {
namespace {

struct Preset {
  std::string_view name;
  int64_t num_layers, hidden_size, num_heads, ffn_size;
};

// GenSLM's models. The published 250M has hidden size 1840 and 25B an ffn of 8196: neither splits over 8 or 64 ranks.
constexpr std::array kPresets{
    Preset{"25M", 8, 512, 8, 2048},     Preset{"250M", 12, 1792, 16, 2048}, Preset{"2.5B", 28, 3840, 32, 4096},
    Preset{"7.9B", 50, 5120, 64, 5120}, Preset{"25B", 64, 8192, 64, 8000},
};

std::string text(double value) {
  return nlohmann::json(value).dump();
}

void require(bool fine, const std::string& message) {
  if (!fine) throw base::UserError("model." + message);
}

void require_positive(std::string_view key, int64_t value) {
  require(value > 0, std::string(key) + " is " + std::to_string(value) + ", expected at least 1");
}

}  // namespace

void ModelConfig::validate() const {
  require_positive("vocab_size", vocab_size);
  require_positive("num_layers", num_layers);
  require_positive("hidden_size", hidden_size);
  require_positive("num_heads", num_heads);
  require_positive("ffn_size", ffn_size);
  require(hidden_size % num_heads == 0, "hidden_size " + std::to_string(hidden_size) +
                                            " is not divisible by model.num_heads " + std::to_string(num_heads));
  require(rotary_pct >= 0 && rotary_pct <= 1, "rotary_pct is " + text(rotary_pct) + ", expected 0 to 1");
  require(rotary_size() % 2 == 0, "rotary_pct " + text(rotary_pct) + " of a head of " + std::to_string(head_size()) +
                                      " turns " + std::to_string(rotary_size()) +
                                      " dimensions, expected an even number");
  require(rotary_base > 0, "rotary_base is " + text(rotary_base) + ", expected more than 0");
  require(layer_norm_epsilon > 0, "layer_norm_epsilon is " + text(layer_norm_epsilon) + ", expected more than 0");
  require(init_std > 0, "init_std is " + text(init_std) + ", expected more than 0");
}

int64_t ModelConfig::num_parameters() const {
  const int64_t h = hidden_size;
  return 2 * vocab_size * h + 2 * h + num_layers * (4 * h * h + 2 * h * ffn_size + 9 * h + ffn_size);
}

ModelConfig model_preset(std::string_view name) {
  for (const Preset& preset : kPresets) {
    if (preset.name != name) continue;
    ModelConfig config;
    config.num_layers = preset.num_layers;
    config.hidden_size = preset.hidden_size;
    config.num_heads = preset.num_heads;
    config.ffn_size = preset.ffn_size;
    return config;
  }
  throw base::UserError("unknown model preset '" + std::string(name) + "'" +
                        base::suggestion(name, model_preset_names()));
}

std::vector<std::string> model_preset_names() {
  std::vector<std::string> names;
  for (const Preset& preset : kPresets) names.emplace_back(preset.name);
  return names;
}

}  // namespace longfold::model
