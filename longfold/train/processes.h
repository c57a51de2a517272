// What several processes can do together, as a recipe asks for it.
#pragma once

#include <cstdint>

#include "longfold/train/recipe.h"

namespace longfold::train {

// Puts the number of processes in the place of 0. UserError where another number was started, and for what does not
// divide or is not there yet for several.
void resolve_processes(Recipe& recipe, int64_t started);

}  // namespace longfold::train
