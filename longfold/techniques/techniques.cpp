#include "longfold/techniques/techniques.h"

#include <utility>

#include "longfold/techniques/checkpoints.h"
#include "longfold/techniques/chunked_attention.h"
#include "longfold/techniques/dense_attention.h"
#include "longfold/techniques/tiled_loss.h"
#include "longfold/techniques/tiled_mlp.h"

namespace longfold::techniques {
namespace {

using memory::Term;

std::shared_ptr<Shelf> make_shelf(const std::string& place, const std::string& folder, int64_t host_bytes, Term term) {
  if (place == "file") return file_shelf(folder, term);
  if (place == "host") return host_shelf(host_bytes, term);
  return device_shelf(term);
}

// Without checkpoints: what tiles and chunks do not do is autograd's.
model::BlockForward without_checkpoint(Pieces pieces, bool by_chunks, bool by_tiles) {
  return [=, pieces = std::move(pieces)](const at::Tensor& x, const model::BlockContext& context) {
    const model::BlockParts& block = pieces.block;
    const at::Tensor attended = by_chunks
                                    ? attend(pieces, x, context)
                                    : model::attend(block.attention, block.project(x, context), context.documents);
    return by_tiles ? finish(pieces, x, attended, context) : block.finish(x, attended, context);
  };
}

}  // namespace

Shelves make_shelves(const MemoryConfig& config, const std::string& folder, const HostBytes& host_bytes) {
  const std::string& place = config.folder.empty() ? folder : config.folder;
  return {make_shelf(config.offload, place, host_bytes.checkpoints, Term::kCheckpoints),
          make_shelf(config.chunked_attention, place, host_bytes.chunks, Term::kAttention)};
}

Shelves make_dry_shelves(const MemoryConfig& config) {
  const auto make = [](const std::string& place, Term term) {
    return place == "file" ? dry_file_shelf(term) : make_shelf(place, "", 0, term);
  };
  return {make(config.offload, Term::kCheckpoints), make(config.chunked_attention, Term::kAttention)};
}

model::Layers with_techniques(model::Layers layers, const MemoryConfig& config, const Shelves& shelves) {
  TORCH_CHECK(!config.automatic, "[memory] expected techniques that were chosen, got auto (train::choose_techniques)");
  TORCH_CHECK(config.offload_parameters == (shelves.parameters != nullptr),
              "[memory] expected a stream of parameters for offload_parameters, and none without");
  if (config.attention == "dense") layers.attention = dense_attention();
  if (config.tiled_loss) layers.loss = tiled_loss(std::move(layers.loss), config.tile_tokens);
  const bool by_chunks = config.chunked_attention != "none", by_tiles = config.tiled_mlp;
  const int64_t every = config.checkpoint_every();
  if (every == 0 && !by_chunks && !by_tiles) return layers;
  layers.arrange = [=](const std::vector<model::BlockParts>& blocks) {
    std::vector<Pieces> pieces;
    for (const model::BlockParts& block : blocks) {
      pieces.push_back(
          {block, by_chunks ? attend_by_chunks(block, config.chunk_tokens, shelves.chunks) : attend_at_once(block),
           by_tiles ? finish_by_tiles(block, config.tile_tokens) : finish_at_once(block)});
    }
    if (every > 0) {
      return with_checkpoints(std::move(pieces), {.every = every,
                                                  .keeps_attention = config.keeps_attention(),
                                                  .shelf = shelves.checkpoints,
                                                  .parameters = shelves.parameters});
    }
    std::vector<model::BlockForward> all;
    for (Pieces& one : pieces) all.push_back(without_checkpoint(std::move(one), by_chunks, by_tiles));
    return all;
  };
  return layers;
}

}  // namespace longfold::techniques
