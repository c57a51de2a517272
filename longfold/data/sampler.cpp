#include "longfold/data/sampler.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <numeric>
#include <string_view>
#include <system_error>
#include <utility>

#include "longfold/base/error.h"
#include "longfold/base/fnv.h"
#include "longfold/data/packing.h"

namespace longfold::data {
namespace {

using base::UserError;

// The generator that the order of windows is defined by; the standard library's shuffles differ between compilers.
class SplitMix64 {
 public:
  explicit SplitMix64(uint64_t state) : state_(state) {}
  uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  // Without bias: values beyond the largest multiple of `bound` are drawn again.
  uint64_t below(uint64_t bound) {
    const uint64_t rest = (~uint64_t{0} % bound + 1) % bound;
    uint64_t value = next();
    while (value > ~uint64_t{0} - rest) value = next();
    return value % bound;
  }

 private:
  uint64_t state_;
};

constexpr int64_t kRun = 1024;  // windows in which each data set of a mixture has its share

// `stream` tells orders of the same seed apart.
std::vector<int64_t> shuffled(int64_t count, int64_t seed, int64_t stream, int64_t epoch) {
  SplitMix64 seeds(static_cast<uint64_t>(seed));
  for (int64_t i = 0; i < stream; ++i) (void)seeds.next();
  SplitMix64 random(seeds.next() ^ static_cast<uint64_t>(epoch));
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
  return order;
}

std::string_view trimmed(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  return text.substr(0, text.find_last_not_of(' ') + 1);
}

// The orders of a step's rows, each made once.
class Orders {
 public:
  explicit Orders(int64_t seed) : seed_(seed) {}
  const std::vector<int64_t>& get(int64_t count, int64_t stream, int64_t epoch) {
    std::vector<int64_t>& order = made_[{stream, epoch}];
    if (order.empty()) order = shuffled(count, seed_, stream, epoch);
    return order;
  }

 private:
  int64_t seed_;
  std::map<std::pair<int64_t, int64_t>, std::vector<int64_t>> made_;
};

}  // namespace

std::vector<MixtureEntry> parse_mixture(const std::string& text) {
  std::vector<MixtureEntry> entries;
  for (std::string_view rest = text; !trimmed(rest).empty();) {
    const size_t comma = std::min(rest.find(','), rest.size());
    const std::string_view entry = trimmed(rest.substr(0, comma));
    rest.remove_prefix(std::min(comma + 1, rest.size()));
    const size_t blank = entry.find_last_of(' ');
    const std::string_view number = blank == std::string_view::npos ? "" : entry.substr(blank + 1);
    double weight = 0;
    const auto [end, code] = std::from_chars(number.data(), number.data() + number.size(), weight);
    if (code != std::errc{} || end != number.data() + number.size() || !(weight > 0) || !std::isfinite(weight)) {
      throw UserError(
          "expected data.mixture to be prefixes and weights above 0 such as \"PREFIX 0.5, PREFIX 2\", got '" +
          std::string(entry) + "'");
    }
    entries.push_back({std::string(trimmed(entry.substr(0, blank))), weight});
  }
  return entries;
}

void SamplerConfig::validate() const {
  constexpr int64_t kLargestBatch = 65'536;  // far beyond use, and what memory holds of the list of windows
  const auto require = [](bool ok, const std::string& message) {
    if (!ok) throw UserError(message);
  };
  require(!path.empty(), "expected data.path to be the prefix of a data set, got \"\"");
  require(sequence_length >= 0,
          "expected data.sequence_length to be 0 or more, got " + std::to_string(sequence_length));
  require(held_out >= 0 && held_out < 1, "expected data.held_out to be in [0, 1), got " + std::to_string(held_out));
  require(batch_size >= 1 && batch_size <= kLargestBatch, "expected data.batch_size to be from 1 to " +
                                                              std::to_string(kLargestBatch) + ", got " +
                                                              std::to_string(batch_size));
  require(seed >= 0, "expected data.seed to be 0 or more, got " + std::to_string(seed));
  require(sequence_length > 0 || batch_size == 1,
          "expected data.batch_size 1 with data.sequence_length 0 (whole records differ in length), got " +
              std::to_string(batch_size));
  require(masked_weight >= 0 && masked_weight <= 1,
          "expected data.masked_weight to be in [0, 1], got " + std::to_string(masked_weight));
  require(!pack || sequence_length > 0, "expected data.sequence_length to be above 0 with data.pack, got 0");
  require(parse_mixture(mixture).empty() || sequence_length > 0,
          "expected data.sequence_length to be above 0 with data.mixture, got 0");
}

int64_t first_held_out(int64_t length, double held_out) {
  return length - static_cast<int64_t>(std::floor(held_out * static_cast<double>(length)));
}

Sampler::Sampler(const TokenFile& file, SamplerConfig config) : config_(std::move(config)) {
  config_.path = file.prefix();  // what is read, whatever the configuration calls it
  config_.validate();
  if (!config_.pack && config_.sequence_length > file.longest()) {
    throw UserError("expected data.sequence_length to be at most " + std::to_string(file.longest()) +
                    ", the longest record of '" + file.prefix() + "', got " + std::to_string(config_.sequence_length));
  }
  const std::vector<MixtureEntry> mixture = parse_mixture(config_.mixture);
  std::vector<double> weights{1.0};
  for (const auto& [path, weight] : mixture) {
    others_.emplace_back(path, config_.tokenizer);
    weights.push_back(weight);
    if (others_.back().tokenizer().hash() != file.tokenizer().hash()) {
      throw UserError("expected the data sets of data.mixture to have the tokenizer of '" + file.prefix() + "', " +
                      file.tokenizer().name() + ", got " + others_.back().tokenizer().name() + " in '" + path + "'");
    }
  }
  add_source(file);
  for (const TokenFile& other : others_) add_source(other);
  set_shares(weights);
}

void Sampler::add_source(const TokenFile& file) {
  const bool first = sources_.empty();
  std::vector<Window> windows;
  if (config_.masked_weight != 1 && !file.has_mask()) {
    throw UserError("data.masked_weight is " + std::to_string(config_.masked_weight) + ", but '" + file.prefix() +
                    "' does not say which bases are soft-masked: write it with longfold prepare --soft-mask");
  }
  for (int64_t sequence = 0; sequence < file.num_sequences(); ++sequence) {
    const int64_t num_labels = file.length(sequence) - 1;
    const int64_t held = first_held_out(file.length(sequence), config_.held_out);
    const int64_t stride = config_.sequence_length > 0 ? config_.sequence_length : std::max<int64_t>(num_labels, 1);
    for (int64_t begin = 0; begin < num_labels; begin += stride) {
      const int64_t first_label = begin + 1;
      const int64_t last_label = std::min(begin + stride, num_labels);
      if (first_label < held) windows.push_back({&file, sequence, begin});
      if (first && last_label >= held) held_out_.push_back({&file, sequence, begin});
    }
  }
  if (windows.empty()) {
    throw UserError("'" + file.prefix() + "' has no token to train on: expected a record of at least 2 tokens before " +
                    "its held-out part of " + std::to_string(config_.held_out));
  }
  sources_.push_back({.file = &file, .rows = rows_of(windows)});
}

// Whole windows of a run, at least one for each; what rounding leaves goes to the first, which is the data set of
// `path`.
void Sampler::set_shares(const std::vector<double>& weights) {
  if (sources_.size() == 1) return;
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  int64_t left = kRun;
  for (size_t i = sources_.size(); i-- > 1;) {
    sources_[i].share = std::max<int64_t>(1, std::llround(weights[i] / sum * static_cast<double>(kRun)));
    left -= sources_[i].share;
  }
  if (left < 1) {
    throw UserError("expected the weights of data.mixture to leave '" + config_.path +
                    "', whose weight is 1, a window in " + std::to_string(kRun) + ", got \"" + config_.mixture + "\"");
  }
  sources_[0].share = left;
}

int64_t Sampler::num_windows() const {
  return std::ssize(sources_[0].rows);
}

std::string Sampler::content_hash() const {
  if (sources_.size() == 1) return sources_[0].file->content_hash();
  base::Fnv1a64 hash;
  for (const Source& source : sources_) hash.update(source.file->content_hash());
  return hash.text();
}

void Sampler::check_content() const {
  for (const Source& source : sources_) source.file->check_content();
}

Batch Sampler::batch(int64_t step) const {
  if (step < 0) throw UserError("expected a step of 0 or more, got " + std::to_string(step));
  std::vector<Row> rows;
  Orders orders(config_.seed);
  std::vector<size_t> of_slot;  // whose each place of a run is
  for (size_t i = 0; i < sources_.size(); ++i) of_slot.insert(of_slot.end(), static_cast<size_t>(sources_[i].share), i);
  const int64_t run_length = std::ssize(of_slot);
  for (int64_t row = 0; row < config_.batch_size; ++row) {
    const int64_t index = step * config_.batch_size + row;
    const int64_t run = index / run_length;
    size_t which = 0;
    int64_t turn = index;  // how many windows of that data set came before
    if (sources_.size() > 1) {
      const std::vector<int64_t>& order = orders.get(run_length, 0, run);
      const auto slot = static_cast<size_t>(index % run_length);
      which = of_slot[static_cast<size_t>(order[slot])];
      turn = run * sources_[which].share;
      for (size_t i = 0; i < slot; ++i) turn += of_slot[static_cast<size_t>(order[i])] == which;
    }
    const std::vector<Row>& all = sources_[which].rows;
    const int64_t count = std::ssize(all);
    const auto stream = sources_.size() > 1 ? static_cast<int64_t>(which) + 1 : 0;
    const std::vector<int64_t>& order = orders.get(count, stream, turn / count);
    rows.push_back(all[static_cast<size_t>(order[static_cast<size_t>(turn % count)])]);
  }
  return read(rows);
}

Batch Sampler::held_out_window(int64_t index) const {
  if (index < 0 || index >= num_held_out_windows()) {
    throw UserError("expected a held-out window below " + std::to_string(num_held_out_windows()) + ", got " +
                    std::to_string(index));
  }
  return read(std::vector<Row>{{held_out_[static_cast<size_t>(index)]}});
}

int64_t Sampler::tokens_of(const Window& window) const {
  const int64_t left = window.file->length(window.sequence) - window.begin;
  return config_.sequence_length > 0 ? std::min(config_.sequence_length, left) : left;
}

std::vector<Sampler::Row> Sampler::rows_of(const std::vector<Window>& windows) const {
  std::vector<Row> rows;
  if (!config_.pack) {
    for (const Window& window : windows) rows.push_back({window});
    return rows;
  }
  std::vector<int64_t> tokens;
  for (const Window& window : windows) tokens.push_back(tokens_of(window));
  for (const std::vector<size_t>& together : pack(tokens, config_.sequence_length)) {
    Row& row = rows.emplace_back();
    for (const size_t i : together) row.push_back(windows[i]);
  }
  return rows;
}

Batch Sampler::read(const std::vector<Row>& rows) const {
  const auto num_rows = std::ssize(rows);
  const Window& first = rows.front().front();
  const int64_t width = config_.sequence_length > 0 ? config_.sequence_length : tokens_of(first);
  const int64_t pad = first.file->tokenizer().pad();
  Batch batch;
  batch.tokens = at::full({num_rows, width}, pad, at::kLong);
  batch.labels = at::full({num_rows, width}, pad, at::kLong);
  batch.positions = at::arange(width, at::kLong).expand({num_rows, width}).contiguous();
  batch.weights = at::zeros({num_rows, width}, at::kFloat);
  batch.held_out_weights = at::zeros({num_rows, width}, at::kFloat);
  std::vector<int64_t> documents;
  for (int64_t row = 0; row < num_rows; ++row) {
    int64_t at = 0;
    for (const Window& window : rows[static_cast<size_t>(row)]) {
      documents.push_back(row * width + at);
      read(window, row, at, batch);
      at += tokens_of(window);
    }
    if (at < width) documents.push_back(row * width + at);  // what is left sees itself alone
  }
  documents.push_back(num_rows * width);
  batch.documents = at::tensor(documents, at::kLong);
  batch.packed = config_.pack;
  return batch;
}

// From token `at` of a row on.
void Sampler::read(const Window& window, int64_t row, int64_t at, Batch& batch) const {
  const auto& [file, sequence, begin] = window;
  const int64_t width = batch.tokens.size(1), length = file->length(sequence);
  const int64_t count = tokens_of(window), num_labels = std::min(count, length - 1 - begin);
  batch.tokens[row].slice(0, at, at + count).copy_(file->tokens(sequence, begin, count));
  batch.labels[row].slice(0, at, at + num_labels).copy_(file->tokens(sequence, begin + 1, num_labels));
  batch.positions[row].slice(0, at).copy_(at::arange(width - at, at::kLong));

  const int64_t held = first_held_out(length, config_.held_out), first = row * width + at;
  const auto* labels = batch.labels.const_data_ptr<int64_t>() + first;
  auto* weights = batch.weights.mutable_data_ptr<float>() + first;
  auto* held_out_weights = batch.held_out_weights.mutable_data_ptr<float>() + first;
  const std::vector<bool> masked = config_.masked_weight == 1 ? std::vector<bool>(static_cast<size_t>(num_labels))
                                                              : file->masked(sequence, begin + 1, num_labels);
  const auto masked_weight = static_cast<float>(config_.masked_weight);
  for (int64_t i = 0; i < num_labels; ++i) {
    if (!file->tokenizer().in_loss(labels[i])) continue;
    const bool held_out = begin + 1 + i >= held;
    (held_out ? held_out_weights : weights)[i] = masked[static_cast<size_t>(i)] && !held_out ? masked_weight : 1.0f;
  }
}

}  // namespace longfold::data
