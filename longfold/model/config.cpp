#include "longfold/model/config.h"

#include <cmath>
#include <string>

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

void require_positive(std::string_view key, int64_t value) {
  require(value > 0, std::string(key) + " is " + std::to_string(value) + ", expected at least 1");
}

}  // namespace

void ModelConfig::validate() const {
  require(vocab_size >= 0, "vocab_size is " + std::to_string(vocab_size) +
                               ", expected at least 1, or 0 for as many as the tokenizer has");
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

}  // namespace longfold::model
