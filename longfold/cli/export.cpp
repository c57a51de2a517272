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
#include "longfold/exchange/hugging_face.h"

namespace longfold::cli {
namespace {

namespace fs = std::filesystem;

struct ExportOptions {
  std::string checkpoint, output;
  bool best = false;
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

void run(const ExportOptions& options) {
  const fs::path checkpoint = find_checkpoint(options.checkpoint, options.best);
  if (fs::exists(options.output)) {
    throw base::UserError("'" + options.output + "' is there already: expected a folder to make");
  }
  Progress progress;
  progress.begin("reading '" + checkpoint.string() + "'");
  const auto [manifest, recipe, transformer] = load_trained_model(checkpoint);
  progress.begin("writing '" + options.output + "'");
  const int64_t longest = recipe.data.sequence_length > 0 ? recipe.data.sequence_length : 2048;
  const nlohmann::ordered_json config = exchange::hugging_face_config(recipe.model, longest);
  const exchange::Tensors tensors =
      exchange::hugging_face_tensors(recipe.model, train::named_parameters<exchange::Tensors>(*transformer));
  base::AtomicFolder folder(options.output);
  write_tensors(folder.temporary() / "model.safetensors", tensors);
  base::write_file(folder.temporary() / "config.json", config.dump(2) + "\n");
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
  command->add_option("--output,-o", options->output, "folder to make")->required()->type_name("FOLDER");
  command->callback([options] { run(*options); });
}

}  // namespace longfold::cli
