#include "longfold/cli/checkpoints.h"

#include <algorithm>
#include <optional>

#include "longfold/base/error.h"
#include "longfold/base/fields.h"
#include "longfold/base/files.h"
#include "longfold/train/device.h"

namespace longfold::cli {

namespace fs = std::filesystem;

fs::path find_checkpoint(const fs::path& given, bool best) {
  const fs::path newest = train::find_checkpoint(given);
  if (!best) return newest;
  if (newest == given) throw base::UserError("expected a run's folder with --best, got a checkpoint");
  if (const std::optional<fs::path> found = train::best_checkpoint(given)) return *found;
  throw base::UserError("no checkpoint in '" + given.string() +
                        "' is known to be the best: that takes train.validation");
}

fs::path folder_to_make(const fs::path& given) {
  const fs::path path = given.has_filename() ? given : given.parent_path();  // a slash at its end is none of its name
  if (fs::exists(path)) throw base::UserError("'" + given.string() + "' is there already: expected a folder to make");
  if (path.has_parent_path()) base::make_folder(path.parent_path());
  return path;
}

data::Tokenizer tokenizer_of(const train::Manifest& manifest, const fs::path& checkpoint) {
  data::Tokenizer tokenizer(manifest.tokenizer, manifest.vocabulary);
  if (tokenizer.hash() == manifest.tokenizer_hash) return tokenizer;
  throw base::UserError("'" + checkpoint.string() + "': expected the tokenizer '" + manifest.tokenizer +
                        "' to have hash " + manifest.tokenizer_hash + ", got " + tokenizer.hash());
}

TrainedModel load_trained_model(const fs::path& checkpoint, const std::string& device) {
  const train::Manifest manifest = train::read_manifest(checkpoint);
  train::Recipe recipe;
  base::from_json(manifest.recipe, recipe, "'" + checkpoint.string() + "': ");
  train::ComputeConfig& compute = recipe.compute;
  if (!device.empty() && device != compute.device) {
    compute.device = device;
    compute.linear = compute.attention = "auto";
  }
  compute.memory_limit = {};  // of the run
  train::resolve(compute);
  model::Transformer model(recipe.model, model::local_layers(train::engines_of(compute)));
  train::load_model(checkpoint, train::named_parameters(*model));
  model.ptr()->to(train::compute_device(compute.device));
  return {manifest, recipe, model};
}

}  // namespace longfold::cli
