#include "longfold/cli/commands.h"

namespace longfold::cli {

void add_info(CLI::App& app) {
  app.add_subcommand("info", "version, instruction set, engines found or missing");
}

}  // namespace longfold::cli
