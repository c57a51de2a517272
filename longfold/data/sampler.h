// Which tokens a training step sees. A batch is a pure function of (seed, step), so resuming needs only the step.
//
// A record is cut into windows of `sequence_length` tokens, or taken whole. Labels are the record shifted by one before
// any cutting, so no label is lost between windows: each counts in exactly one window per epoch.
//
// The last `held_out` part of every record is never trained on: a label there has weight 0 and held-out weight 1. As
// attention is causal it comes after everything trained on, so one forward over a whole record gives the training loss
// and an untouched held-out loss.
//
// Packed, the windows of short records lie side by side in rows of `sequence_length` tokens. Each is a document of its
// own, which sees no other.
//
// A mixture draws windows of several data sets by weight: in each run of 1024 windows each has its share, in an order
// that the seed gives. Each goes through epochs of its own.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "longfold/data/token_file.h"

namespace longfold::data {

// On the CPU; all but documents [B, S].
struct Batch {
  at::Tensor tokens;            // int64
  at::Tensor labels;            // int64: the token after each position; [PAD] where there is none
  at::Tensor positions;         // int64: 0, 1, ... in each window
  at::Tensor documents;         // int64: the token at which each window begins, counted through the rows; then B * S
  at::Tensor weights;           // float: 1 where the label counts in the training loss (less if masked), else 0
  at::Tensor held_out_weights;  // float: 1 where it counts in the held-out loss, else 0
  bool packed = false;          // rows may hold several windows; else what follows the one is padding, of weight 0
};
// Labels [PAD] and [UNK] count in neither loss, so in a long stretch of ambiguous bases all weights may be 0.

// The [data] section of a recipe.
struct SamplerConfig {
  std::string path = "";  // prefix of the data set
  int64_t sequence_length = 0;
  double held_out = 0.0;
  int64_t batch_size = 1;
  int64_t seed = 0;
  std::string tokenizer = "";
  std::string mixture = "";
  double masked_weight = 1.0;
  bool pack = false;

  friend bool operator==(const SamplerConfig&, const SamplerConfig&) = default;
  void validate() const;  // UserError that names the field
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("path", self.path, "prefix of the data set that `longfold prepare` wrote");
    visit("sequence_length", self.sequence_length, "tokens in a window; 0 takes each record whole");
    visit("held_out", self.held_out, "part at the end of each record that is never trained on, such as 0.1");
    visit("batch_size", self.batch_size, "windows in a step");
    visit("seed", self.seed, "of the order of the windows");
    visit("tokenizer", self.tokenizer, "what a pair that Megatron wrote is read with: genslm69 or nucleotide");
    visit("mixture", self.mixture,
          "further data sets and their weights, that of path being 1: \"PREFIX 0.5, PREFIX 2\"");
    visit("masked_weight", self.masked_weight,
          "weight in the training loss of labels with soft-masked (lower-case) bases");
    visit("pack", self.pack, "true fills windows with several short records, which do not see each other");
  }
};

// The data sets of a mixture beside the first. UserError for a text that is none.
struct MixtureEntry {
  std::string path;
  double weight = 0;
  friend bool operator==(const MixtureEntry&, const MixtureEntry&) = default;
};
[[nodiscard]] std::vector<MixtureEntry> parse_mixture(const std::string& text);

// The first label index (1 <= index <= length) of a record that is held out; `length` if none is.
[[nodiscard]] int64_t first_held_out(int64_t length, double held_out);

class Sampler {
 public:
  // `file` must outlive the sampler, which opens the others of a mixture itself. UserError if the configuration does
  // not fit the files.
  Sampler(const TokenFile& file, SamplerConfig config);

  // Of all data sets: that of the file alone, if it is the only one.
  [[nodiscard]] std::string content_hash() const;
  void check_content() const;  // UserError if a file was changed after it was written

  [[nodiscard]] Batch batch(int64_t step) const;
  [[nodiscard]] int64_t num_windows() const;  // in one epoch of `file`; rows, if they are packed

  // The windows of `file` with held-out labels, in order, one a batch: for the held-out loss when records are cut.
  [[nodiscard]] int64_t num_held_out_windows() const { return static_cast<int64_t>(held_out_.size()); }
  [[nodiscard]] Batch held_out_window(int64_t index) const;

 private:
  struct Window {
    const TokenFile* file = nullptr;
    int64_t sequence = 0;
    int64_t begin = 0;
  };
  using Row = std::vector<Window>;  // side by side
  struct Source {
    const TokenFile* file = nullptr;
    std::vector<Row> rows = {};
    int64_t share = 1;  // of the rows of a run
  };

  void add_source(const TokenFile& file);
  void set_shares(const std::vector<double>& weights);
  [[nodiscard]] int64_t tokens_of(const Window& window) const;
  [[nodiscard]] std::vector<Row> rows_of(const std::vector<Window>& windows) const;
  [[nodiscard]] Batch read(const std::vector<Row>& rows) const;
  void read(const Window& window, int64_t row, int64_t at, Batch& batch) const;

  SamplerConfig config_;
  std::vector<TokenFile> others_;
  std::vector<Source> sources_;
  std::vector<Window> held_out_;
};

}  // namespace longfold::data
