#include "longfold/train/initial_weights.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "longfold/base/error.h"
#include "longfold/base/fields.h"
#include "longfold/train/checkpoint.h"

namespace longfold::train {

void load_initial_weights(const Recipe& recipe, const data::Tokenizer& tokenizer, const NamedTensors& model) {
  using Json = nlohmann::ordered_json;
  // Names stand for other keys, which are compared.
  constexpr std::array<std::string_view, 6> kMayDiffer{"preset",  "family",      "init_std",
                                                       "dropout", "rotary_base", "rotary_scaling"};
  const std::string checkpoint = find_checkpoint(recipe.train.init_from).string();
  const Manifest manifest = read_manifest(checkpoint);
  if (manifest.tokenizer_hash != tokenizer.hash()) {
    throw base::UserError("cannot begin from '" + checkpoint + "': it has tokenizer " + manifest.tokenizer + " (" +
                          manifest.tokenizer_hash + "), " + recipe.data.path + " has " + tokenizer.name() + " (" +
                          tokenizer.hash() + ")");
  }
  const Json now = base::to_json(recipe.model), then = manifest.recipe.value("model", Json::object());
  for (const auto& [key, value] : now.items()) {
    if (std::ranges::find(kMayDiffer, key) != kMayDiffer.end() || then.value(key, Json()) == value) continue;
    throw base::UserError("cannot begin from '" + checkpoint + "': model." + key + " is " +
                          then.value(key, Json()).dump() + " there, the recipe says " + value.dump() +
                          " (left out, it is that of the checkpoint)");
  }
  load_model(checkpoint, model);
}

}  // namespace longfold::train
