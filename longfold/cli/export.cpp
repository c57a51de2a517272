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
#include "longfold/cli/checkpoints.h"
#include "longfold/cli/commands.h"
#include "longfold/cli/progress.h"
#include "longfold/exchange/hugging_face/config.h"
#include "longfold/exchange/hugging_face/names.h"
#include "longfold/exchange/hugging_face/tokenizer.h"

namespace longfold::cli {
namespace {

namespace fs = std::filesystem;

struct ExportOptions {
  std::string checkpoint, output;
  bool best = false, without_tokenizer = false;
};

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

// How to leave out what cannot be written.
void write_tokenizer(const fs::path& folder, const fs::path& checkpoint, const train::Manifest& manifest,
                     int64_t longest) {
  try {
    const data::Tokenizer tokenizer = tokenizer_of(manifest, checkpoint);
    const nlohmann::ordered_json json =
        exchange::tokenizer_json(tokenizer.name(), tokenizer.vocabulary(), tokenizer.letters_per_token());
    base::write_file(folder / "tokenizer.json", json.dump(2) + "\n");
    base::write_file(folder / "tokenizer_config.json",
                     exchange::tokenizer_config_json(tokenizer.vocabulary(), longest).dump(2) + "\n");
  } catch (const base::UserError& error) {
    throw base::UserError(std::string(error.what()) + " (--without-tokenizer exports the model alone)");
  }
}

void run(const ExportOptions& options) {
  const fs::path checkpoint = find_checkpoint(options.checkpoint, options.best);
  if (fs::exists(options.output)) {
    throw base::UserError("'" + options.output + "' is there already: expected a folder to make");
  }
  Progress progress;
  progress.begin("reading '" + checkpoint.string() + "'");
  const auto [manifest, recipe, transformer] = load_trained_model(checkpoint);
  progress.begin("writing '" + options.output + "'");
  const int64_t windows = recipe.data.sequence_length > 0 ? recipe.data.sequence_length : 2048;
  const int64_t longest = recipe.model.has_learned_positions() ? recipe.model.max_positions : windows;
  const nlohmann::ordered_json config = exchange::hugging_face_config(recipe.model, longest);
  const exchange::Tensors tensors =
      exchange::to_theirs(recipe.model, train::named_parameters<exchange::Tensors>(*transformer));
  base::AtomicFolder folder(folder_to_make(options.output));
  write_tensors(folder.temporary() / "model.safetensors", tensors);
  base::write_file(folder.temporary() / "config.json", config.dump(2) + "\n");
  if (!options.without_tokenizer) write_tokenizer(folder.temporary(), checkpoint, manifest, longest);
  folder.commit();
  progress.finish();
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
  command->add_flag("--best", options->best, "of a run's folder the one with the least validation loss");
  command->add_flag("--without-tokenizer", options->without_tokenizer, "writes no tokenizer.json");
  command->add_option("--output,-o", options->output, "folder to make")->required()->type_name("FOLDER");
  command->callback([options] { run(*options); });
}

}  // namespace longfold::cli
