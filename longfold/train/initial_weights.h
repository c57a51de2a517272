// Weights that a run begins with in place of random ones.
#pragma once

#include "longfold/data/tokenizer.h"
#include "longfold/train/named_tensors.h"
#include "longfold/train/recipe.h"

namespace longfold::train {

// Fills `model` from the checkpoint train.init_from, of a run or imported. UserError if its model or its tokens are not
// the recipe's. The recipe may have another init_std, and stretch positions by another rotary_base or rotary_scaling.
void load_initial_weights(const Recipe& recipe, const data::Tokenizer& tokenizer, const NamedTensors& model);

}  // namespace longfold::train
