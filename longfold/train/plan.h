// What a run will take, and what to turn on where that is too much.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "longfold/data/token_file.h"
#include "longfold/train/dry_step.h"

namespace longfold::train {

// A set of techniques and what it is called.
struct Rung {
  std::string name;
  techniques::MemoryConfig memory;
};

// Sets of techniques from the one that costs no time to the one that takes least memory, in the order in which a second
// buys most bytes. What waits does so in the host's memory, on the CPU in a file. Sizes of tiles and chunks are the
// recipe's.
[[nodiscard]] std::vector<Rung> ways_to_fit(const Recipe& recipe);

// The techniques one by one, each with those before it, after the dense baseline: what each brings.
[[nodiscard]] std::vector<Rung> ladder(const Recipe& recipe);

// The first of ways_to_fit() whose step fits, if any. `limit` in bytes of the device.
[[nodiscard]] std::optional<Rung> fastest_that_fits(const Recipe& recipe, int64_t rows, int64_t tokens, int64_t limit);

// With memory.auto: puts the first of ways_to_fit() whose step fits in its place, or, where none does, the one that
// takes least. `limit` in bytes of the device; 0: not known. The rest of the recipe is resolved.
void choose_techniques(Recipe& recipe, int64_t rows, int64_t tokens, int64_t limit);

// What would make this term's bytes fewer, for a table; "" for nothing.
[[nodiscard]] std::string removed_by(memory::Term term, const Recipe& recipe);

// As options on a command line: "--memory.checkpoint full --memory.tiled_mlp true".
[[nodiscard]] std::string as_options(const techniques::MemoryConfig& memory);

// Bytes that a run may take: compute.memory_limit, else the device's memory; 0: not known.
[[nodiscard]] int64_t limit_of(const ComputeConfig& compute);

// Tokens of the longest row of a batch.
[[nodiscard]] int64_t longest_row(const Recipe& recipe, const data::TokenFile& file);

// Rows of a batch that a process has.
[[nodiscard]] int64_t rows_of_process(const Recipe& recipe);

// Of the recipe's longest row; with "auto" put in its place, as by resolve() for [compute]. Opens the data set.
struct Plan {
  Recipe recipe;
  int64_t rows = 0, tokens = 0, limit = 0;
  StepMemory step;
};
// UserError as check_fits(), unless `force`.
[[nodiscard]] Plan plan_run(Recipe recipe, bool force, int64_t processes = 1);

// What takes most of a step and what makes it fit: "most of it are activations, 1.2 GiB, which ... makes smaller (it
// fits with --memory...; longfold plan shows the table)".
[[nodiscard]] std::string advice(const Recipe& recipe, const StepMemory& step, int64_t rows, int64_t tokens,
                                 int64_t limit);

// UserError that says by how much a step is too large, what takes most, and what to turn on; nothing where it fits.
void check_fits(const Recipe& recipe, const StepMemory& step, int64_t rows, int64_t tokens, int64_t limit);

}  // namespace longfold::train
