// config.json of Hugging Face's transformers: a model's shape as versions 4 and 5 write it.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "longfold/model/config.h"

namespace longfold::exchange {

// For both versions. `longest`: tokens of a sequence, where positions have no end of their own. UserError that names
// the key in which the model differs from all of its family there.
[[nodiscard]] nlohmann::ordered_json hugging_face_config(const model::ModelConfig& config, int64_t longest);

struct ReadConfig {
  model::ModelConfig model;
  int64_t longest = 0;             // tokens of a sequence
  std::vector<std::string> notes;  // on what is not kept, such as dropout
};
// UserError, after `where`, that names the key: missing, of the wrong type, or with a value that no model here has.
[[nodiscard]] ReadConfig read_hugging_face_config(std::string_view text, const std::string& where);

}  // namespace longfold::exchange
