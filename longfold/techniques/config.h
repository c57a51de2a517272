// A recipe's [memory] section: what makes a longer sequence fit, each technique its own switch.
#pragma once

#include <cstdint>
#include <string>

namespace longfold::techniques {

struct MemoryConfig {
  bool automatic = false;
  std::string attention = "flash";
  std::string checkpoint = "none";
  std::string offload = "none";
  bool tiled_mlp = false;
  bool tiled_loss = false;
  std::string chunked_attention = "none";
  std::string offload_optimizer = "none";
  bool offload_parameters = false;
  bool early_updates = false;
  int64_t tile_tokens = 0;
  int64_t chunk_tokens = 0;
  std::string folder = "";

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("auto", self.automatic, "true: the fastest set of the techniques below that fits, in place of what they say");
    visit("attention", self.attention,
          "flash; dense builds mask, scores and weights of tokens x tokens, to compare with");
    visit(
        "checkpoint", self.checkpoint,
        "what a block keeps for backward: none: all; full: its input; selective: attention's output besides; every-N: "
        "the input of every N-th block");
    visit("offload", self.offload, "where that waits: none: on the device; host: a GPU's host; file");
    visit("tiled_mlp", self.tiled_mlp, "MLP and all that follows attention, tile_tokens at a time");
    visit("tiled_loss", self.tiled_loss, "scores of the next token and the loss, tile_tokens at a time");
    visit("chunked_attention", self.chunked_attention,
          "attention chunk_tokens of queries and keys at a time, which wait: none: not so; on the device; host; file");
    visit("offload_optimizer", self.offload_optimizer,
          "where AdamW's moments, and in 16 bits the fp32 parameters, wait between updates: none: on the device; host; "
          "file");
    visit("offload_parameters", self.offload_parameters,
          "in 16 bits: those of blocks are rounded from the fp32 ones when their block runs, and go with it; needs "
          "offload_optimizer and checkpoint");
    visit("early_updates", self.early_updates,
          "each parameter moves as soon as backward has its gradient, which goes; needs optimizer.clip_norm 0");
    visit("tile_tokens", self.tile_tokens, "tokens in a tile of the MLP and the loss; 0 = 1024, on a GPU 16384");
    visit("chunk_tokens", self.chunk_tokens, "tokens in a chunk of attention; 0 = 4096, on a GPU 65536");
    visit("folder", self.folder, "for what waits in a file; empty = train.output");
  }
  // base::UserError with one line that names the key.
  void validate() const;
  friend bool operator==(const MemoryConfig&, const MemoryConfig&) = default;

  // Puts the sizes that a device has of its own in place of 0. UserError where something would wait in a place that the
  // device does not have.
  void resolve(bool on_gpu);

  [[nodiscard]] bool keeps_attention() const { return checkpoint == "selective"; }
  // Blocks whose input is one checkpoint; 0: there are none.
  [[nodiscard]] int64_t checkpoint_every() const;
};

}  // namespace longfold::techniques
