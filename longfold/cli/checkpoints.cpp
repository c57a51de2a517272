#include "longfold/cli/checkpoints.h"

#include <optional>

#include "longfold/base/error.h"
#include "longfold/base/fields.h"

namespace longfold::cli {

namespace fs = std::filesystem;

fs::path find_checkpoint(const fs::path& given, bool best) {
  const bool is_one = fs::exists(given / "manifest.json");
  if (is_one && best) throw base::UserError("expected a run's folder with --best, got a checkpoint");
  if (is_one) return given;
  const std::optional<fs::path> found = best ? train::best_checkpoint(given) : train::latest_checkpoint(given);
  if (found) return *found;
  if (best && train::latest_checkpoint(given)) {
    throw base::UserError("no checkpoint in '" + given.string() +
                          "' is known to be the best: that takes train.validation");
  }
  throw base::UserError("expected a checkpoint or a folder with some, got '" + given.string() + "'");
}

TrainedModel load_trained_model(const fs::path& checkpoint) {
  const train::Manifest manifest = train::read_manifest(checkpoint);
  train::Recipe recipe;
  base::from_json(manifest.recipe, recipe, "'" + checkpoint.string() + "': ");
  const auto linear = model::linear_engine(recipe.compute.linear, train::compute_dtype(recipe.compute.dtype));
  model::Transformer model(recipe.model, model::local_layers({.linear = linear}));
  train::load_model(checkpoint, train::named_parameters(*model));
  return {manifest, recipe, model};
}

}  // namespace longfold::cli
