// The MLP and all else that follows attention in a block, a tile of tokens at a time (the tiled MLP of ALST, Bekman et
// al. 2025): what the MLP widens to is never there for more than a tile. Backward runs each tile again.
#pragma once

#include <cstdint>
#include <memory>

#include "longfold/techniques/pieces.h"

namespace longfold::techniques {

[[nodiscard]] std::shared_ptr<const FinishPiece> finish_by_tiles(const model::BlockParts& block, int64_t tile_tokens);

}  // namespace longfold::techniques
