// longfold export: a checkpoint as a folder that Hugging Face's transformers loads.
#include <ATen/ATen.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "longfold/base/error.h"
#include "longfold/base/files.h"
#include "longfold/base/safetensors.h"
#include "longfold/base/text.h"
#include "longfold/cli/commands.h"
#include "longfold/exchange/hugging_face.h"
#include "longfold/model/transformer.h"
#include "longfold/train/checkpoint.h"
#include "longfold/train/recipe.h"

namespace longfold::cli {
namespace {

namespace fs = std::filesystem;

struct ExportOptions {
  std::string checkpoint, output;
};

// The checkpoint itself, or the newest one in a run's folder.
fs::path find_checkpoint(const fs::path& given) {
  if (fs::exists(given / "manifest.json")) return given;
  const std::optional<fs::path> latest = train::latest_checkpoint(given);
  if (latest) return *latest;
  throw base::UserError("expected a checkpoint or a folder with some, got '" + given.string() + "'");
}

void write_tensors(const fs::path& path, const exchange::Tensors& tensors) {
  std::vector<at::Tensor> kept;  // alive until they are written
  std::vector<base::TensorBytes> entries;
  for (const auto& [name, value] : tensors) {
    const at::Tensor& flat = kept.emplace_back(value.detach().contiguous());
    entries.push_back(
        {name, "F32", flat.sizes().vec(), {static_cast<const std::byte*>(flat.const_data_ptr()), flat.nbytes()}});
  }
  base::write_safetensors(path, entries);
}

void run(const ExportOptions& options) {
  const fs::path checkpoint = find_checkpoint(options.checkpoint);
  if (fs::exists(options.output)) {
    throw base::UserError("'" + options.output + "' is there already: expected a folder to make");
  }
  train::Recipe recipe;
  base::from_json(train::read_manifest(checkpoint).recipe, recipe, "'" + checkpoint.string() + "': ");
  const int64_t longest = recipe.data.sequence_length > 0 ? recipe.data.sequence_length : 2048;
  const nlohmann::ordered_json config = exchange::hugging_face_config(recipe.model, longest);
  const model::Transformer transformer(recipe.model);
  train::NamedTensors parameters;
  exchange::Tensors ours;
  for (const auto& item : transformer->named_parameters()) {
    parameters.push_back({item.key(), item.value()});
    ours.push_back({item.key(), item.value()});
  }
  train::load_model(checkpoint, parameters);
  const exchange::Tensors tensors = exchange::hugging_face_tensors(recipe.model, ours);
  base::AtomicFolder folder(options.output);
  write_tensors(folder.temporary() / "model.safetensors", tensors);
  base::write_file(folder.temporary() / "config.json", config.dump(2) + "\n");
  folder.commit();
  std::printf("%s: %s, %s parameters in %zu tensors, of '%s'\n", base::printable(options.output).c_str(),
              config["architectures"][0].get<std::string>().c_str(),
              base::format_count(recipe.model.num_parameters()).c_str(), tensors.size(),
              base::printable(checkpoint.string()).c_str());
}

}  // namespace

void add_export(CLI::App& app) {
  CLI::App* command = app.add_subcommand("export", "a checkpoint to a folder that Hugging Face's transformers loads");
  const auto options = std::make_shared<ExportOptions>();
  command->add_option("checkpoint", options->checkpoint, "a checkpoint, or a run's output folder: its newest one")
      ->required()
      ->type_name("FOLDER");
  command->add_option("--output,-o", options->output, "folder to make")->required()->type_name("FOLDER");
  command->callback([options] { run(*options); });
}

}  // namespace longfold::cli
