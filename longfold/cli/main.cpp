// The longfold program. Exit codes: 0 fine, 1 the run failed, 2 the user asked for something that cannot be.
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>

#include "longfold/base/error.h"
#include "longfold/cli/commands.h"
#include "longfold/version.h"

namespace {

// The first line: libtorch appends a stack trace to its messages.
int fail(int code, std::string message) {
  message.resize(std::min(message.find('\n'), message.size()));
  std::fprintf(stderr, "longfold: %s\n", message.c_str());
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Evoformer attention and training on very long sequences.", "longfold");
  app.set_version_flag("--version", longfold::kVersion);
  app.require_subcommand(1);
  longfold::cli::add_info(app);
  longfold::cli::add_train(app);
  longfold::cli::add_prepare(app);
  longfold::cli::add_inspect(app);
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    return fail(2, std::string(error.what()) + " (longfold --help lists the commands)");
  } catch (const longfold::base::UserError& error) {
    return fail(2, error.what());
  } catch (const std::exception& error) {
    return fail(1, error.what());
  }
}
