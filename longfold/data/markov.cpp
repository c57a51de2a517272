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

using Records = std::vector<std::vector<int64_t>>;

Records read_records(const TokenFile& file) {
  Records records;
  for (int64_t i = 0; i < file.num_sequences(); ++i) {
    const at::Tensor tokens = file.tokens(i);
    const auto* begin = tokens.const_data_ptr<int64_t>();
    records.emplace_back(begin, begin + tokens.numel());
  }
  return records;
}

// A label, and what is predicted of it so far.
struct Label {
  size_t record = 0;
  int64_t index = 0;                // in the record; 1 or more
  double probability = 1;           // by the longest contexts that were counted
  double matches = 0, context = 0;  // counts of the context under way, with this label and with any
};

// Labels that count, in order.
class Labels {
 public:
  explicit Labels(const LabelPart& part) : records_(read_records(part.file)) {
    const Tokenizer& tokenizer = part.file.tokenizer();
    for (size_t r = 0; r < records_.size(); ++r) {
      const auto length = static_cast<int64_t>(records_[r].size());
      const int64_t held = first_held_out(length, part.held_out);
      for (int64_t i = 1; i < length; ++i) {
        if ((i >= held) == part.in_held_out && tokenizer.in_loss(token(r, i))) labels_.push_back({r, i});
      }
    }
  }

  [[nodiscard]] std::vector<Label>& all() { return labels_; }
  [[nodiscard]] int64_t count() const { return static_cast<int64_t>(labels_.size()); }
  [[nodiscard]] int64_t token(size_t record, int64_t index) const {
    return records_[record][static_cast<size_t>(index)];
  }
  // The `order` tokens before the label, as one number.
  [[nodiscard]] uint64_t context(const Label& label, int64_t order, uint64_t vocab_size) const {
    uint64_t key = 0;
    for (int64_t i = label.index - order; i < label.index; ++i) {
      key = key * vocab_size + static_cast<uint64_t>(token(label.record, i));
    }
    return key;
  }
  [[nodiscard]] BaselineScore score() const {
    BaselineScore score;
    for (const Label& label : labels_) score.loss -= std::log(label.probability);
    score.num_labels = count();
    if (score.num_labels > 0) score.loss /= static_cast<double>(score.num_labels);
    return score;
  }

 private:
  Records records_;
  std::vector<Label> labels_;
};

// How often each context of one order came, and with each label.
class Counts {
 public:
  Counts(int64_t order, int64_t vocab_size) : order_(order), vocab_size_(static_cast<uint64_t>(vocab_size)) {}

  void add(const Labels& labels, const Label& label) {
    if (label.index < order_) return;
    const uint64_t context = labels.context(label, order_, vocab_size_);
    ++contexts_[context];
    ++pairs_[pair(context, labels, label)];
  }
  // Sets label.matches and label.context; a context that never came, or is longer than the record so far, is 0.
  void look_up(const Labels& labels, Label& label, double left_out) const {
    label.matches = label.context = 0;
    if (label.index < order_) return;
    const uint64_t context = labels.context(label, order_, vocab_size_);
    const auto found = contexts_.find(context);
    if (found == contexts_.end()) return;
    const auto matches = pairs_.find(pair(context, labels, label));
    label.matches = matches == pairs_.end() ? 0 : static_cast<double>(matches->second) - left_out;
    label.context = static_cast<double>(found->second) - left_out;
  }

 private:
  [[nodiscard]] uint64_t pair(uint64_t context, const Labels& labels, const Label& label) const {
    return context * vocab_size_ + static_cast<uint64_t>(labels.token(label.record, label.index));
  }

  int64_t order_;
  uint64_t vocab_size_;
  std::unordered_map<uint64_t, int64_t> contexts_, pairs_;
};

double interpolated(const Label& label, double strength) {
  return (label.matches + strength * label.probability) / (label.context + strength);
}

double best_strength(const std::vector<Label>& labels) {
  double best_loss = std::numeric_limits<double>::infinity();
  double best = 1;
  for (double strength = 0x1p-4; strength <= 0x1p20; strength *= 2) {
    double loss = 0;
    for (const Label& label : labels) loss -= std::log(interpolated(label, strength));
    if (loss < best_loss) {
      best_loss = loss;
      best = strength;
    }
  }
  return best;
}

void check_orders(int64_t highest, int64_t vocab_size) {
  const double room = static_cast<double>(highest + 1) * std::log2(static_cast<double>(vocab_size));
  if (highest >= 0 && highest <= kMaxOrder && room < 64) return;
  throw base::UserError("expected a Markov order from 0 to " + std::to_string(kMaxOrder) +
                        " whose contexts fit 64 bits, got " + std::to_string(highest) + " with a vocabulary of " +
                        std::to_string(vocab_size));
}

}  // namespace

BaselineScore uniform_baseline(const LabelPart& scored) {
  const auto& vocabulary = scored.file.tokenizer().vocabulary();
  const auto num_letters = std::count_if(vocabulary.begin(), vocabulary.end(),
                                         [](const std::string& text) { return !text.starts_with('['); });
  return {std::log(static_cast<double>(num_letters)), Labels(scored).count()};
}

std::vector<BaselineScore> markov_baselines(const LabelPart& trained, const LabelPart& scored, int64_t highest,
                                            const std::function<void(int64_t, int64_t)>& progress) {
  const Tokenizer& tokenizer = trained.file.tokenizer();
  check_orders(highest, tokenizer.vocab_size());
  if (tokenizer.hash() != scored.file.tokenizer().hash()) {
    throw base::UserError("expected data sets with the same tokens, got " + tokenizer.name() + " (" + tokenizer.hash() +
                          ") in '" + trained.file.prefix() + "' and " + scored.file.tokenizer().name() + " (" +
                          scored.file.tokenizer().hash() + ") in '" + scored.file.prefix() + "'");
  }
  Labels training(trained), scoring(scored);
  const auto begin = [&](Label& label) { label.probability = 1.0 / static_cast<double>(tokenizer.vocab_size()); };
  std::ranges::for_each(training.all(), begin);
  std::ranges::for_each(scoring.all(), begin);
  std::vector<BaselineScore> scores;
  for (int64_t order = 0; order <= highest; ++order) {
    Counts counts(order, tokenizer.vocab_size());
    for (const Label& label : training.all()) counts.add(training, label);
    for (Label& label : training.all()) counts.look_up(training, label, /*left_out=*/1);
    const double strength = best_strength(training.all());
    for (Label& label : scoring.all()) counts.look_up(scoring, label, /*left_out=*/0);
    for (Labels* labels : {&training, &scoring}) {
      for (Label& label : labels->all()) label.probability = interpolated(label, strength);
    }
    scores.push_back(scoring.score());
    progress(order + 1, highest + 1);
  }
  return scores;
}

BaselineScore uniform_baseline(const TokenFile& file, double held_out) {
  return uniform_baseline({file, held_out, /*in_held_out=*/true});
}

BaselineScore markov_baseline(const TokenFile& file, double held_out, int64_t order) {
  return markov_baselines({file, held_out, false}, {file, held_out, true}, order).back();
}

}  // namespace longfold::data
