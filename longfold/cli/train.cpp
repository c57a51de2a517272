// longfold train RECIPE [--resume [auto]] [--section.key value ...]
#include <c10/util/Exception.h>

#include <cerrno>
#include <cstdio>
#include <memory>

#include "longfold/base/error.h"
#include "longfold/base/fields.h"
#include "longfold/cli/commands.h"
#include "longfold/cli/failure.h"
#include "longfold/cli/launch.h"
#include "longfold/cli/progress.h"
#include "longfold/cli/signals.h"
#include "longfold/cli/train_report.h"
#include "longfold/parallel/mesh.h"
#include "longfold/parallel/sequence_layout.h"
#include "longfold/train/device.h"
#include "longfold/train/plan.h"
#include "longfold/train/processes.h"
#include "longfold/train/trainer.h"

namespace longfold::cli {
namespace {

enum class Resume {
  kNo,
  kYes,   // there must be a checkpoint
  kAuto,  // if there is one
};

struct Arguments {
  std::string recipe;
  Resume resume = Resume::kNo;
  bool force = false;
  std::vector<std::pair<std::string, std::string>> options;  // "section.key", text
};

void check_output(const train::Recipe& recipe, const Arguments& arguments) {
  const auto checkpoint = train::latest_checkpoint(recipe.train.output);
  if (!checkpoint && arguments.resume == Resume::kYes) {
    throw base::UserError("cannot resume: no checkpoint in '" + recipe.train.output +
                          "' (leave out --resume to begin)");
  }
  if (!checkpoint || arguments.resume != Resume::kNo) return;
  throw base::UserError("'" + checkpoint->string() +
                        "' is there already: go on from it with --resume, or choose another " +
                        "folder with --train.output");
}

// What follows --resume is "auto" or nothing; another word is the recipe, as after any flag.
void take_resume(const std::string& word, Arguments& arguments) {
  arguments.resume = word == "auto" ? Resume::kAuto : Resume::kYes;
  if (word == "auto" || word.empty()) return;
  if (!arguments.recipe.empty()) throw base::UserError("unexpected argument '" + word + "'");
  arguments.recipe = word;
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
  const int processes = num_launched_processes();
  std::string command = (processes > 1 ? "mpirun -n " + std::to_string(processes) + " " : "") +
                        quoted(program_invocation_name) + " train " + quoted(arguments.recipe) +
                        (resume ? " --resume" : "");
  for (const auto& [name, text] : arguments.options) command += " --" + name + " " + quoted(text);
  return command;
}

std::string newest_checkpoint(const train::Recipe& recipe) {
  const auto checkpoint = train::latest_checkpoint(recipe.train.output);
  return checkpoint ? "the newest checkpoint is '" + checkpoint->string() + "'" : "there is no checkpoint yet";
}

StopWords before_the_steps(const train::Recipe& recipe) {
  return {.first = "\nlongfold: stopped before the first step; " + newest_checkpoint(recipe) + "\n",
          .second = "",
          .nothing_to_save = true};
}

StopWords within_the_steps(const train::Recipe& recipe, const std::string& resume_command) {
  const bool any = train::latest_checkpoint(recipe.train.output).has_value();
  return {.first = "\nlongfold: finishing this step, then saving (again to end at once, without saving)\n",
          .second = "\nlongfold: ended at once, steps that were not saved are lost; " + newest_checkpoint(recipe) +
                    (any ? "; to go on: " + resume_command : "") + "\n"};
}

StopWords within_the_evaluation(const train::Recipe& recipe, const std::string& resume_command) {
  return {.first = "\nlongfold: stopped within the evaluation; " + newest_checkpoint(recipe) +
                   "; to evaluate: " + resume_command + "\n",
          .second = "\nlongfold: " + newest_checkpoint(recipe) + "\n",
          .nothing_to_save = true};
}

// Calls f; where memory runs out, says what the plan knows of it.
template <class F>
auto with_advice(const train::Plan& plan, F&& f) {
  const auto explained = [&](const std::string& what) {
    return base::RunError(what + "; the plan was " + base::format_bytes(plan.step.device) + ", " +
                          train::advice(plan.recipe, plan.step, plan.rows, plan.tokens, plan.limit));
  };
  try {
    return f();
  } catch (const base::MemoryError& error) {
    throw explained(error.what());
  } catch (const c10::OutOfMemoryError& error) {
    const std::string what = error.what_without_backtrace();
    throw explained(what.substr(0, what.find('\n')));
  }
}

// Where a run can go on after it failed, in the same line as why it did.
bool run_steps(train::Trainer& trainer, const train::Events& events, const std::atomic<bool>& stop,
               const Arguments& arguments, const train::Plan& plan) {
  try {
    return with_advice(plan, [&] { return trainer.run(events, stop); });
  } catch (const train::Diverged&) {
    throw;  // says it already
  } catch (const base::RunError& error) {
    const bool any = train::latest_checkpoint(trainer.recipe().train.output).has_value();
    throw base::RunError(std::string(error.what()) + "; " + newest_checkpoint(trainer.recipe()) +
                         "; to go on when that is mended: " + command_to_go_on(arguments, any));
  }
}

// What a step will take, beside what its techniques are.
void print_plan(const train::Plan& plan) {
  const std::string techniques = train::as_options(plan.recipe.memory);
  const int64_t on_host = plan.step.on_host;
  std::printf("plan         %s%s%s a step%s%s\n", base::format_bytes(plan.step.device).c_str(),
              on_host > 0 ? (" and " + base::format_bytes(on_host) + " of the host").c_str() : "",
              plan.step.in_files > 0 ? (" and " + base::format_bytes(plan.step.in_files) + " in files").c_str() : "",
              techniques.empty() ? "" : "; ", techniques.c_str());
}

// How they share the work, and what of it is padding.
void print_processes(const train::Plan& plan) {
  const parallel::Degrees degrees = plan.recipe.parallel.degrees();
  const parallel::SequenceLayout layout(plan.tokens, degrees.ring, degrees.ulysses);
  const int64_t padding = layout.padded_length() - plan.tokens;
  std::printf("processes    %ld: data %ld x ring %ld x ulysses %ld, %s of %s tokens each%s\n",
              long{degrees.processes()}, long{degrees.data}, long{degrees.ring}, long{degrees.ulysses},
              base::format_count(layout.local_length()).c_str(), base::format_count(plan.tokens).c_str(),
              padding > 0 ? (", " + std::to_string(padding) + " of them padding").c_str() : "");
}

std::string chosen(const techniques::MemoryConfig& memory) {
  const std::string options = train::as_options(memory);
  return options.empty() ? "no technique is wanted" : options;
}

void print_note(const train::FolderLock& lock) {
  if (lock.left_by().empty()) return;
  std::fprintf(stderr,
               "longfold: note: '%s' was left by %s, which did not end in order; if it is still running, locks of this "
               "file system do not reach from one machine to another: stop one of the two\n",
               lock.file().c_str(), lock.left_by().c_str());
}

void run_train(const Arguments& arguments, train::Recipe recipe, parallel::World& world) {
  recipe.parallel.processes = recipe.parallel.processes > 0 ? recipe.parallel.processes : world.size();
  train::resolve_processes(recipe, world.size());
  const parallel::Mesh mesh(world, recipe.parallel.degrees());
  const bool is_first = world.rank() == 0;
  if (!is_first && std::freopen("/dev/null", "w", stdout) == nullptr) throw base::RunError("cannot open /dev/null");
  check_output(recipe, arguments);
  const auto meter = memory::MemoryMeter::install();
  if (train::compute_device(recipe.compute.device).is_cpu()) meter.set_limit(recipe.compute.memory_limit);
  set_threads(recipe.compute);

  const auto words = [&](StopWords given) {
    return is_first ? given : StopWords{.first = "", .second = "", .nothing_to_save = given.nothing_to_save};
  };
  StopSignals signals(words(before_the_steps(recipe)));
  Progress progress(is_first);
  progress.begin("planning the memory of a step");
  const train::Plan plan = train::plan_run(recipe, arguments.force, world.size());
  if (recipe.memory.automatic) std::printf("memory       auto: %s\n", chosen(plan.recipe.memory).c_str());
  recipe.memory = plan.recipe.memory;
  progress.begin("checking the tokens of " + recipe.data.path + " and building the model");
  const auto made = with_advice(plan, [&] { return std::make_unique<train::Trainer>(recipe, meter, mesh); });
  train::Trainer& trainer = *made;
  check_output(recipe, arguments);  // again: nobody else can write there from here on
  progress.begin("reading the newest checkpoint");
  const bool resume = arguments.resume != Resume::kNo && train::latest_checkpoint(recipe.train.output);
  const std::string changes = resume ? trainer.resume() : "";
  progress.finish();
  if (is_first) print_note(*trainer.lock());
  print_start(trainer, changes);

  if (world.size() > 1) print_processes(plan);
  print_plan(plan);
  if (recipe.compute.device == "auto") std::printf("device       auto: %s\n", trainer.recipe().compute.device.c_str());
  const std::string resume_command = command_to_go_on(arguments, true);
  train::Events events;
  events.step = [&](const train::StepReport& report) { progress.show(report); };
  events.validating = [&](int64_t done, int64_t of) {
    done == 0 ? progress.begin_parts("validation", "window", of) : progress.show_parts(done, of);
  };
  events.saving = [&](int64_t step) { progress.begin("saving step " + std::to_string(step)); };
  events.checkpoint = [&](const std::filesystem::path&) {
    signals.say(words(within_the_steps(recipe, resume_command)));
    progress.begin("step " + std::to_string(trainer.steps_done() + 1) + " under way");
  };
  signals.say(words(within_the_steps(recipe, resume_command)));
  progress.begin("step " + std::to_string(trainer.steps_done() + 1) + " under way");
  const bool finished = run_steps(trainer, events, signals.stop(), arguments, plan);
  progress.finish();
  if (const auto saved = train::latest_checkpoint(recipe.train.output))
    std::printf("saved        %s\n", saved->c_str());
  std::fflush(stdout);  // an evaluation may be ended by a signal

  signals.say(words(within_the_evaluation(recipe, resume_command)));
  if (!finished) {
    std::printf("stopped after step %ld of %ld; to go on: %s\n", long{trainer.steps_done()}, long{recipe.train.steps},
                command_to_go_on(arguments, trainer.steps_done() > 0).c_str());
  } else if (trainer.any_wants(signals.stop())) {
    std::printf("stopped before the evaluation; to evaluate: %s\n", resume_command.c_str());
  } else {
    print_summary(trainer, progress, plan.step.traffic.bytes_sent);
  }
}

// Under srun nobody ends the others for one that failed.
void run_train(const Arguments& arguments) {
  train::Recipe recipe = train::read_recipe(arguments.recipe, arguments.options);
  const auto world = launched_world(recipe.parallel.timeout);
  if (world->size() == 1) return run_train(arguments, std::move(recipe), *world);
  try {
    run_train(arguments, std::move(recipe), *world);
  } catch (...) {
    const int code = fail_by_exception();
    std::fflush(nullptr);
    world->abort(code);
  }
}

}  // namespace

void add_train(CLI::App& app) {
  CLI::App* command = app.add_subcommand("train", "trains a model as a recipe says");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("recipe", arguments->recipe, "TOML file; options below override it");
  const auto resume = std::make_shared<std::string>();
  const CLI::Option* resume_option =
      command
          ->add_option("--resume", *resume, "goes on from the newest checkpoint in train.output; auto: if there is one")
          ->expected(0, 1)
          ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)
          ->type_name("[auto]");
  command->add_flag("--force", arguments->force, "runs a step that the plan says does not fit in the memory");
  for (const std::string& name : base::option_names(train::Recipe())) {
    const std::string shorter = name == "compute.memory_limit" ? "--memory-limit,"
                                : name == "data.tokenizer"     ? "--tokenizer,"
                                                               : "";
    command
        ->add_option_function<std::string>(
            shorter + "--" + name, [=](const std::string& text) { arguments->options.emplace_back(name, text); })
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)
        ->group(shorter.empty() ? "" : "Options");
  }
  command->allow_extras();  // so that a mistyped option can be answered with the nearest one
  command->footer("Recipe options and their defaults:\n" + base::describe(train::Recipe()));
  command->callback([=] {
    for (const std::string& word : command->remaining()) {
      if (word.starts_with("--")) throw base::UserError(unknown_option(word.substr(2, word.find('=') - 2)));
    }
    if (resume_option->count() > 0) take_resume(*resume, *arguments);
    if (arguments->recipe.empty()) throw base::UserError("expected a recipe (longfold train --help)");
    if (command->remaining_size() > 0) throw base::UserError("unexpected argument '" + command->remaining()[0] + "'");
    run_train(*arguments);
  });
}

}  // namespace longfold::cli
