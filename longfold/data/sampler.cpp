#include "longfold/data/sampler.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <utility>

#include "longfold/base/error.h"

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

std::vector<int64_t> shuffled(int64_t count, int64_t seed, int64_t epoch) {
  SplitMix64 seeds(static_cast<uint64_t>(seed));
  SplitMix64 random(seeds.next() ^ static_cast<uint64_t>(epoch));
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
  return order;
}

}  // namespace

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
}

int64_t first_held_out(int64_t length, double held_out) {
  return length - static_cast<int64_t>(std::floor(held_out * static_cast<double>(length)));
}

Sampler::Sampler(const TokenFile& file, SamplerConfig config) : file_(file), config_(std::move(config)) {
  config_.path = file.prefix();  // what is read, whatever the configuration calls it
  config_.validate();
  if (config_.sequence_length > file.longest()) {
    throw UserError("expected data.sequence_length to be at most " + std::to_string(file.longest()) +
                    ", the longest record of '" + file.prefix() + "', got " + std::to_string(config_.sequence_length));
  }
  for (int64_t sequence = 0; sequence < file.num_sequences(); ++sequence) {
    const int64_t num_labels = file.length(sequence) - 1;
    const int64_t held = first_held_out(file.length(sequence), config_.held_out);
    const int64_t stride = config_.sequence_length > 0 ? config_.sequence_length : std::max<int64_t>(num_labels, 1);
    for (int64_t begin = 0; begin < num_labels; begin += stride) {
      const int64_t first_label = begin + 1;
      const int64_t last_label = std::min(begin + stride, num_labels);
      if (first_label < held) train_.push_back({sequence, begin});
      if (last_label >= held) held_out_.push_back({sequence, begin});
    }
  }
  if (train_.empty()) {
    throw UserError("'" + file.prefix() + "' has no token to train on: expected a record of at least 2 tokens before " +
                    "its held-out part of " + std::to_string(config_.held_out));
  }
}

Batch Sampler::batch(int64_t step) const {
  if (step < 0) throw UserError("expected a step of 0 or more, got " + std::to_string(step));
  std::vector<Window> windows;
  int64_t epoch = -1;
  std::vector<int64_t> order;
  for (int64_t row = 0; row < config_.batch_size; ++row) {
    const int64_t index = step * config_.batch_size + row;
    if (index / num_windows() != epoch) {
      epoch = index / num_windows();
      order = shuffled(num_windows(), config_.seed, epoch);
    }
    windows.push_back(train_[static_cast<size_t>(order[static_cast<size_t>(index % num_windows())])]);
  }
  return read(windows);
}

Batch Sampler::held_out_window(int64_t index) const {
  if (index < 0 || index >= num_held_out_windows()) {
    throw UserError("expected a held-out window below " + std::to_string(num_held_out_windows()) + ", got " +
                    std::to_string(index));
  }
  return read({held_out_[static_cast<size_t>(index)]});
}

Batch Sampler::read(const std::vector<Window>& windows) const {
  const auto num_rows = static_cast<int64_t>(windows.size());
  const int64_t width = config_.sequence_length > 0 ? config_.sequence_length : file_.length(windows.front().sequence);
  const Tokenizer& tokenizer = file_.tokenizer();
  Batch batch;
  batch.tokens = at::full({num_rows, width}, tokenizer.pad(), at::kLong);
  batch.labels = at::full({num_rows, width}, tokenizer.pad(), at::kLong);
  batch.positions = at::arange(width, at::kLong).expand({num_rows, width}).contiguous();
  batch.weights = at::zeros({num_rows, width}, at::kFloat);
  batch.held_out_weights = at::zeros({num_rows, width}, at::kFloat);
  for (int64_t row = 0; row < num_rows; ++row) {
    const auto [sequence, begin] = windows[static_cast<size_t>(row)];
    const int64_t length = file_.length(sequence);
    const int64_t count = std::min(width, length - begin);
    const int64_t num_labels = std::min(width, length - 1 - begin);
    batch.tokens[row].slice(0, 0, count).copy_(file_.tokens(sequence, begin, count));
    batch.labels[row].slice(0, 0, num_labels).copy_(file_.tokens(sequence, begin + 1, num_labels));

    const int64_t held = first_held_out(length, config_.held_out);
    const auto* labels = batch.labels.const_data_ptr<int64_t>() + row * width;
    auto* weights = batch.weights.mutable_data_ptr<float>() + row * width;
    auto* held_out_weights = batch.held_out_weights.mutable_data_ptr<float>() + row * width;
    for (int64_t i = 0; i < num_labels; ++i) {
      if (!tokenizer.in_loss(labels[i])) continue;
      (begin + 1 + i < held ? weights : held_out_weights)[i] = 1.0f;
    }
  }
  return batch;
}

}  // namespace longfold::data
