// The longfold program; cli/failure.h has its exit codes.
#include <algorithm>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "longfold/base/error.h"
#include "longfold/base/text.h"
#include "longfold/cli/commands.h"
#include "longfold/cli/failure.h"
#include "longfold/version.h"

namespace {

// CLI11 appends further lines to its messages.
std::string_view first_line(std::string_view message) {
  return message.substr(0, message.find('\n'));
}

// What was printed may still be in the buffer, and a full disk shows only when it is written.
int finish(int code) {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code;
  return longfold::cli::fail(1, "cannot write to standard output (is the disk full?)");
}

// CLI11 would say that a command is missing, not which word is none.
void check_command(const CLI::App& app, const std::string& word) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  if (word.starts_with("-") || std::ranges::find(names, word) != names.end()) return;
  throw longfold::base::UserError("unknown command '" + word + "'" + longfold::base::suggestion(word, names));
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Evoformer attention and training on very long sequences.", "longfold");
  app.set_version_flag("--version", longfold::kVersion);
  app.require_subcommand(1);
  longfold::cli::add_info(app);
  longfold::cli::add_train(app);
  longfold::cli::add_plan(app);
  longfold::cli::add_prepare(app);
  longfold::cli::add_inspect(app);
  longfold::cli::add_eval(app);
  longfold::cli::add_report(app);
  longfold::cli::add_export(app);
  longfold::cli::add_import(app);
  longfold::cli::add_bench(app);
  try {
    if (argc > 1) check_command(app, argv[1]);
    app.parse(argc, argv);
    return finish(0);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return finish(app.exit(error));  // --help, --version
    return longfold::cli::fail(2, std::string(first_line(error.what())) + " (longfold --help lists the commands)");
  } catch (...) {
    return longfold::cli::fail_by_exception();
  }
}
