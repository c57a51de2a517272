#include "longfold/data/markov.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <unordered_map>
#include <vector>

#include "longfold/base/error.h"
#include "longfold/data/sampler.h"

namespace longfold::data {
namespace {

constexpr int64_t kMaxOrder = 8;

// Calls visit(record, label index) for the labels that count: those trained on, or those held out.
template <class Visit>
void for_each_label(const Tokenizer& tokenizer, const std::vector<std::vector<int64_t>>& records, double held_out,
                    bool in_held_out, Visit visit) {
  for (const std::vector<int64_t>& record : records) {
    const auto length = static_cast<int64_t>(record.size());
    const int64_t held = first_held_out(length, held_out);
    for (int64_t i = 1; i < length; ++i) {
      if ((i >= held) == in_held_out && tokenizer.in_loss(record[static_cast<size_t>(i)])) visit(record, i);
    }
  }
}

class MarkovModel {
 public:
  MarkovModel(int64_t order, int64_t vocab_size)
      : vocab_size_(static_cast<uint64_t>(vocab_size)), levels_(static_cast<size_t>(order) + 1) {
    const double room = static_cast<double>(order + 1) * std::log2(static_cast<double>(vocab_size));
    if (order < 0 || order > kMaxOrder || room >= 64) {
      throw base::UserError("expected a Markov order from 0 to " + std::to_string(kMaxOrder) +
                            " whose contexts fit 64 bits, got " + std::to_string(order) + " with a vocabulary of " +
                            std::to_string(vocab_size));
    }
  }

  [[nodiscard]] int64_t order() const { return static_cast<int64_t>(levels_.size()) - 1; }

  void count(const std::vector<int64_t>& record, int64_t label) {
    for (int64_t k = 0; k <= std::min(order(), label); ++k) {
      Level& level = levels_[static_cast<size_t>(k)];
      const uint64_t context = context_key(record, label, k);
      ++level.contexts[context];
      ++level.labels[context * vocab_size_ + static_cast<uint64_t>(record[static_cast<size_t>(label)])];
    }
  }

  // p of the label from at most `order` tokens before it; `left_out` is 1 to take this one label out of the counts.
  [[nodiscard]] double probability(const std::vector<int64_t>& record, int64_t label, int64_t order,
                                   double left_out) const {
    double p = 1.0 / static_cast<double>(vocab_size_);
    for (int64_t k = 0; k <= std::min(order, label); ++k) {
      const Level& level = levels_[static_cast<size_t>(k)];
      const uint64_t context = context_key(record, label, k);
      const auto in_context = level.contexts.find(context);
      if (in_context == level.contexts.end()) break;  // nor has any longer context been seen
      const auto with_label =
          level.labels.find(context * vocab_size_ + static_cast<uint64_t>(record[static_cast<size_t>(label)]));
      const double matches =
          with_label == level.labels.end() ? 0.0 : static_cast<double>(with_label->second) - left_out;
      const double total = static_cast<double>(in_context->second) - left_out;
      p = (matches + level.strength * p) / (total + level.strength);
    }
    return p;
  }

  void set_strength(int64_t order, double strength) { levels_[static_cast<size_t>(order)].strength = strength; }

 private:
  struct Level {
    double strength = 1;  // b_k
    std::unordered_map<uint64_t, int64_t> contexts;
    std::unordered_map<uint64_t, int64_t> labels;  // context and label
  };

  [[nodiscard]] uint64_t context_key(const std::vector<int64_t>& record, int64_t label, int64_t k) const {
    uint64_t key = 0;
    for (int64_t i = label - k; i < label; ++i)
      key = key * vocab_size_ + static_cast<uint64_t>(record[static_cast<size_t>(i)]);
    return key;
  }

  uint64_t vocab_size_;
  std::vector<Level> levels_;
};

std::vector<std::vector<int64_t>> read_records(const TokenFile& file) {
  std::vector<std::vector<int64_t>> records;
  for (int64_t i = 0; i < file.num_sequences(); ++i) {
    const at::Tensor tokens = file.tokens(i);
    const auto* begin = tokens.const_data_ptr<int64_t>();
    records.emplace_back(begin, begin + tokens.numel());
  }
  return records;
}

}  // namespace

BaselineScore uniform_baseline(const TokenFile& file, double held_out) {
  const auto& vocabulary = file.tokenizer().vocabulary();
  const auto num_letters = std::count_if(vocabulary.begin(), vocabulary.end(),
                                         [](const std::string& text) { return !text.starts_with('['); });
  BaselineScore score{std::log(static_cast<double>(num_letters)), 0};
  for_each_label(file.tokenizer(), read_records(file), held_out, true,
                 [&](const auto&, int64_t) { ++score.num_labels; });
  return score;
}

BaselineScore markov_baseline(const TokenFile& file, double held_out, int64_t order) {
  MarkovModel model(order, file.tokenizer().vocab_size());
  const std::vector<std::vector<int64_t>> records = read_records(file);
  const auto mean_loss = [&](bool in_held_out, int64_t k, double left_out) {
    BaselineScore score;
    for_each_label(file.tokenizer(), records, held_out, in_held_out, [&](const auto& record, int64_t label) {
      score.loss -= std::log(model.probability(record, label, k, left_out));
      ++score.num_labels;
    });
    if (score.num_labels > 0) score.loss /= static_cast<double>(score.num_labels);
    return score;
  };
  for_each_label(file.tokenizer(), records, held_out, false,
                 [&](const auto& record, int64_t label) { model.count(record, label); });
  for (int64_t k = 0; k <= order; ++k) {
    double best_loss = std::numeric_limits<double>::infinity();
    double best_strength = 1;
    for (double strength = 0x1p-4; strength <= 0x1p20; strength *= 2) {
      model.set_strength(k, strength);
      const double loss = mean_loss(false, k, 1.0).loss;
      if (loss < best_loss) {
        best_loss = loss;
        best_strength = strength;
      }
    }
    model.set_strength(k, best_strength);
  }
  return mean_loss(true, order, 0.0);
}

}  // namespace longfold::data
