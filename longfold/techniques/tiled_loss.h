// The loss a tile of tokens at a time: the scores of all tokens are never there, neither in fp32 nor rounded. Backward
// finds a tile's scores again, one product more: labels are weighted after the loss, so that their gradients are not
// known when it is found. With the 69 tokens of a codon vocabulary scores are a small part of the memory; with tens of
// thousands they are most of it.
#pragma once

#include <cstdint>
#include <functional>

#include "longfold/model/layers.h"

namespace longfold::techniques {

using Loss = decltype(model::Layers::loss);
[[nodiscard]] Loss tiled_loss(Loss loss, int64_t tile_tokens);

}  // namespace longfold::techniques
