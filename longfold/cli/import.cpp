// longfold import: a model of Hugging Face's transformers as a checkpoint.
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "longfold/base/error.h"
#include "longfold/base/fields.h"
#include "longfold/base/files.h"
#include "longfold/base/text.h"
#include "longfold/cli/checkpoints.h"
#include "longfold/cli/commands.h"
#include "longfold/cli/progress.h"
#include "longfold/data/sidecar.h"
#include "longfold/data/tokenizer.h"
#include "longfold/exchange/hugging_face/config.h"
#include "longfold/exchange/hugging_face/tokenizer.h"
#include "longfold/exchange/hugging_face/weights.h"
#include "longfold/train/checkpoint.h"
#include "longfold/train/recipe.h"

namespace longfold::cli {
namespace {

namespace fs = std::filesystem;

struct ImportOptions {
  std::string folder, output, tokenizer;
};

// One that is built in, or that of a data set.
data::Tokenizer named_tokenizer(const std::string& given) {
  const std::string sidecar = given + ".json";
  if (!fs::exists(sidecar)) return data::make_tokenizer(given);
  data::Tokenizer tokenizer = data::make_tokenizer("nucleotide");
  data::Sidecar unused;
  (void)data::read_sidecar(sidecar, tokenizer, unused);
  return tokenizer;
}

// A table of tokenizer.json has no name: that of the one built in that it is, or that of the folder.
data::Tokenizer with_name(const std::vector<std::string>& vocabulary, const fs::path& folder) {
  for (const std::string& name : data::tokenizer_names()) {
    data::Tokenizer tokenizer = data::make_tokenizer(name);
    if (tokenizer.vocabulary() == vocabulary) return tokenizer;
  }
  return {fs::absolute(folder).lexically_normal().filename().string(), vocabulary};
}

data::Tokenizer find_tokenizer(const ImportOptions& options) {
  const fs::path path = fs::path(options.folder) / "tokenizer.json";
  const bool is_there = fs::exists(path);
  const auto vocabulary =
      is_there ? exchange::vocabulary_of_tokenizer(base::read_file(path)) : std::optional<std::vector<std::string>>();
  if (options.tokenizer.empty()) {
    if (vocabulary) return with_name(*vocabulary, options.folder);
    throw base::UserError("'" + options.folder + "' has " +
                          (is_there ? "a tokenizer.json that longfold did not write" : "no tokenizer.json") +
                          ": expected --tokenizer, " + base::join(data::tokenizer_names(), " or ") +
                          " or a data set that has the model's");
  }
  data::Tokenizer tokenizer = named_tokenizer(options.tokenizer);
  if (!vocabulary || *vocabulary == tokenizer.vocabulary()) return tokenizer;
  throw base::UserError("'" + path.string() + "' has another table than '" + options.tokenizer +
                        "' (without --tokenizer it says what the ids mean)");
}

train::Manifest manifest_of(const ImportOptions& options, const exchange::ReadConfig& config,
                            const data::Tokenizer& tokenizer) {
  train::Recipe recipe;
  recipe.model = config.model;
  recipe.data.sequence_length = config.longest;
  return {.step = 0,
          .recipe = base::to_json(recipe),
          .tokenizer = tokenizer.name(),
          .tokenizer_hash = tokenizer.hash(),
          .vocabulary = tokenizer.vocabulary(),
          .data_hash = "",
          .imported_from = fs::absolute(options.folder).lexically_normal().string()};
}

void run(const ImportOptions& options) {
  const fs::path folder = options.folder;
  if (fs::exists(options.output)) {
    throw base::UserError("'" + options.output + "' is there already: expected a folder to make");
  }
  exchange::refuse_pickles(folder);
  if (!fs::is_directory(folder)) throw base::UserError("expected a folder, got '" + options.folder + "'");
  const fs::path path = folder / "config.json";
  const exchange::ReadConfig config =
      exchange::read_hugging_face_config(base::read_file(path), "'" + path.string() + "': ");
  const data::Tokenizer tokenizer = find_tokenizer(options);
  if (tokenizer.vocab_size() != config.model.vocab_size) {
    throw base::UserError("'" + path.string() + "': vocab_size is " + std::to_string(config.model.vocab_size) +
                          ", expected " + std::to_string(tokenizer.vocab_size()) + ", that of the tokenizer '" +
                          tokenizer.name() + "'");
  }
  Progress progress;
  progress.begin("reading '" + options.folder + "'");
  const exchange::ReadWeights weights = exchange::read_hugging_face_weights(folder, config.model);
  train::NamedTensors parameters;
  for (const auto& [name, value] : weights.parameters) parameters.push_back({name, value});
  progress.begin("writing '" + options.output + "'");
  base::AtomicFolder output(folder_to_make(options.output));
  const fs::path written =
      train::save_checkpoint(output.temporary(), manifest_of(options, config, tokenizer), {parameters, {}});
  output.commit();
  progress.finish();
  const fs::path checkpoint = fs::path(options.output) / written.filename();
  std::printf("%s: %s parameters in %zu tensors, of '%s'\n", base::printable(checkpoint.string()).c_str(),
              base::format_count(config.model.num_parameters()).c_str(), weights.num_tensors,
              base::printable(options.folder).c_str());
  std::printf("tokenizer    %s (%s)\n", base::printable(tokenizer.name()).c_str(), tokenizer.hash().c_str());
  std::vector<std::string> notes = config.notes;
  notes.insert(notes.end(), weights.notes.begin(), weights.notes.end());
  for (const std::string& note : notes) std::printf("note         %s\n", base::printable(note).c_str());
}

}  // namespace

void add_import(CLI::App& app) {
  CLI::App* command = app.add_subcommand("import", "a model of Hugging Face's transformers to a checkpoint");
  const auto options = std::make_shared<ImportOptions>();
  command->add_option("folder", options->folder, "config.json and safetensors, as save_pretrained() writes them")
      ->required()
      ->type_name("FOLDER");
  command->add_option("--tokenizer", options->tokenizer,
                      "what its ids mean, unless tokenizer.json is one that longfold wrote: genslm69, nucleotide, or "
                      "the prefix of a data set that has them");
  command->add_option("--output,-o", options->output, "folder to make")->required()->type_name("FOLDER");
  command->callback([options] { run(*options); });
}

}  // namespace longfold::cli
