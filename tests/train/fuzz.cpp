#include "tests/train/fuzz.h"

#include <cstdlib>

#include "longfold/base/error.h"
#include "longfold/train/recipe.h"
#include "tests/fuzz/input_file.h"

namespace longfold::train {

// A recipe that is read can be kept in a checkpoint and comes back the same.
void fuzz_recipe(const uint8_t* bytes, size_t size) {
  const InputFile input(bytes, size);
  try {
    const Recipe recipe = read_recipe(input.path(), {});
    Recipe again;
    base::from_json(nlohmann::ordered_json::parse(base::to_json(recipe).dump()), again, "");
    if (again != recipe) std::abort();
  } catch (const base::UserError&) {
    return;
  }
}

}  // namespace longfold::train
