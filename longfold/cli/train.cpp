// longfold train RECIPE [--resume] [--section.key value ...]
#include <ATen/Parallel.h>

#include <cerrno>
#include <cstdio>
#include <memory>

#include "longfold/base/error.h"
#include "longfold/base/fields.h"
#include "longfold/cli/commands.h"
#include "longfold/cli/launch.h"
#include "longfold/cli/signals.h"
#include "longfold/cli/train_report.h"
#include "longfold/parallel/engine.h"
#include "longfold/train/trainer.h"

namespace longfold::cli {
namespace {

struct Arguments {
  std::string recipe;
  bool resume = false;
  std::vector<std::pair<std::string, std::string>> options;  // "section.key", text
};

void check_output(const train::Recipe& recipe, const Arguments& arguments) {
  const auto checkpoint = train::latest_checkpoint(recipe.train.output);
  if (!checkpoint || arguments.resume) return;
  throw base::UserError("'" + checkpoint->string() +
                        "' is there already: go on from it with --resume, or choose another " +
                        "folder with --train.output");
}

std::string unknown_option(const std::string& name) {
  const std::vector<std::string> names = base::option_names(train::Recipe());
  return "unknown option '--" + name + "'" +
         (base::nearest(name, names).empty() ? " (longfold train --help lists them)" : base::suggestion(name, names));
}

// As one word for the shell.
std::string quoted(const std::string& text) {
  constexpr const char* kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%";
  if (!text.empty() && text.find_first_not_of(kPlain) == std::string::npos) return text;
  std::string word = "'";
  for (const char c : text) c == '\'' ? word += "'\\''" : word += c;
  return word + "'";
}

std::string command_to_go_on(const Arguments& arguments, bool resume) {
  std::string command =
      quoted(program_invocation_name) + " train " + quoted(arguments.recipe) + (resume ? " --resume" : "");
  for (const auto& [name, text] : arguments.options) command += " --" + name + " " + quoted(text);
  return command;
}

void run_train(const Arguments& arguments) {
  parallel::require_engine(parallel::mpi_engine(), num_launched_processes());
  const train::Recipe recipe = train::read_recipe(arguments.recipe, arguments.options);
  check_output(recipe, arguments);
  const auto meter = memory::MemoryMeter::install();
  meter.set_limit(recipe.compute.memory_limit);
  if (recipe.compute.threads > 0) at::set_num_threads(static_cast<int>(recipe.compute.threads));

  train::Trainer trainer(recipe, meter);
  if (arguments.resume) trainer.resume();
  const std::atomic<bool>& stop =
      catch_signals("\nlongfold: finishing this step, then saving (again to end at once)\n");
  print_start(recipe, trainer);

  ProgressLine progress;
  std::filesystem::path saved;
  train::Events events;
  events.step = [&](const train::StepReport& report) { progress.show(report); };
  events.checkpoint = [&](const std::filesystem::path& path) { saved = path; };
  const bool finished = trainer.run(events, stop);
  progress.finish();
  if (!saved.empty()) std::printf("saved        %s\n", saved.c_str());
  if (finished) {
    print_summary(recipe, trainer, meter, progress.tokens_per_second());
  } else {
    std::printf("stopped after step %ld of %ld; to go on: %s\n", long{trainer.steps_done()}, long{recipe.train.steps},
                command_to_go_on(arguments, trainer.steps_done() > 0).c_str());
  }
}

}  // namespace

void add_train(CLI::App& app) {
  CLI::App* command = app.add_subcommand("train", "trains a model as a recipe says");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("recipe", arguments->recipe, "TOML file; options below override it")->required();
  command->add_flag("--resume", arguments->resume, "goes on from the newest checkpoint in train.output");
  for (const std::string& name : base::option_names(train::Recipe())) {
    const bool shortened = name == "compute.memory_limit";
    command
        ->add_option_function<std::string>(
            (shortened ? "--memory-limit,--" : "--") + name,
            [=](const std::string& text) { arguments->options.emplace_back(name, text); })
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)
        ->group(shortened ? "Options" : "");
  }
  command->allow_extras();  // so that a mistyped option can be answered with the nearest one
  command->footer("Recipe options and their defaults:\n" + base::describe(train::Recipe()));
  command->callback([=] {
    for (const std::string& word : command->remaining()) {
      if (word.starts_with("--")) throw base::UserError(unknown_option(word.substr(2, word.find('=') - 2)));
    }
    if (command->remaining_size() > 0) throw base::UserError("unexpected argument '" + command->remaining()[0] + "'");
    run_train(*arguments);
  });
}

}  // namespace longfold::cli
