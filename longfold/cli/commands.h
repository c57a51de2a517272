// One function per subcommand: adds itself to the program, runs when chosen, throws on failure.
#pragma once

#include <CLI/CLI.hpp>

namespace longfold::cli {

void add_bench(CLI::App& app);
void add_eval(CLI::App& app);
void add_bench_reach(CLI::App& bench);
void add_bench_comm(CLI::App& bench);
void add_export(CLI::App& app);
void add_import(CLI::App& app);
void add_info(CLI::App& app);
void add_train(CLI::App& app);
void add_inspect(CLI::App& app);
void add_plan(CLI::App& app);
void add_prepare(CLI::App& app);
void add_report(CLI::App& app);

}  // namespace longfold::cli
