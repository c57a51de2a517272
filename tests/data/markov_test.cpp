#include "longfold/data/markov.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "longfold/data/prepare.h"
#include "longfold/data/sampler.h"
#include "tests/data/scratch.h"

namespace longfold::data {
namespace {

// The formula of the header once more, by recounting the records for every single probability.
class PlainMarkov {
 public:
  PlainMarkov(std::vector<std::vector<int32_t>> records, double held_out, int64_t vocab_size)
      : records_(std::move(records)), held_out_(held_out), vocab_size_(vocab_size) {}

  double held_out_loss(int64_t order) {
    strengths_.clear();
    for (int64_t k = 0; k <= order; ++k) {
      std::map<double, double> loss_of;
      for (int i = -4; i <= 20; ++i) {
        strengths_.resize(static_cast<size_t>(k));
        strengths_.push_back(std::ldexp(1.0, i));
        loss_of[strengths_.back()] = mean_loss(false, k);
      }
      const auto best = std::min_element(loss_of.begin(), loss_of.end(),
                                         [](const auto& a, const auto& b) { return a.second < b.second; });
      strengths_.back() = best->first;
    }
    return mean_loss(true, order);
  }

 private:
  [[nodiscard]] bool counts(const std::vector<int32_t>& record, size_t i, bool held_out) const {
    const bool in_tail = static_cast<int64_t>(i) >= first_held_out(std::ssize(record), held_out_);
    return i > 0 && record[i] != 0 && record[i] != 3 && in_tail == held_out;
  }

  [[nodiscard]] double mean_loss(bool held_out, int64_t order) const {
    double loss = 0;
    double labels = 0;
    for (const auto& record : records_) {
      for (size_t i = 0; i < record.size(); ++i) {
        if (!counts(record, i, held_out)) continue;
        loss -= std::log(probability(record, i, std::min<int64_t>(order, static_cast<int64_t>(i)), !held_out));
        labels += 1;
      }
    }
    return loss / labels;
  }

  [[nodiscard]] double probability(const std::vector<int32_t>& record, size_t i, int64_t k, bool leave_out) const {
    if (k < 0) return 1.0 / static_cast<double>(vocab_size_);
    const auto length = static_cast<size_t>(k);
    double in_context = leave_out ? -1 : 0;
    double with_label = in_context;
    for (const auto& other : records_) {
      for (size_t j = length; j < other.size(); ++j) {
        if (!counts(other, j, false)) continue;
        if (!std::equal(record.begin() + i - length, record.begin() + i, other.begin() + j - length)) continue;
        in_context += 1;
        with_label += other[j] == record[i];
      }
    }
    const double b = strengths_[length];
    return (with_label + b * probability(record, i, k - 1, leave_out)) / (in_context + b);
  }

  std::vector<std::vector<int32_t>> records_;
  double held_out_;
  int64_t vocab_size_;
  std::vector<double> strengths_;
};

std::vector<int32_t> skewed(size_t length, uint32_t state) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < length; ++i) {
    state = state * 1664525 + 1013904223;
    const auto draw = static_cast<int32_t>(state >> 28);  // 0-15
    ids.push_back(draw == 0 ? 0 : draw < 9 && i > 0 ? 5 + (ids.back() + 1) % 4 : 5 + draw % 4);
  }
  return ids;
}

TEST(Markov, AgreesWithPlainCounting) {
  const std::vector<std::vector<int32_t>> records = {skewed(150, 1), skewed(60, 2), {5}, {6, 7}};
  const TokenFile file(write_tokens(records));
  for (int64_t order = 0; order <= 2; ++order) {
    EXPECT_NEAR(markov_baseline(file, 0.2, order).loss, PlainMarkov(records, 0.2, 9).held_out_loss(order), 1e-12);
  }
}

// Trained on one data set and scored on all of another: as if the two were one, whose tail is the other.
TEST(Markov, ScoresAnotherDataSet) {
  const std::vector<std::vector<int32_t>> trained = {skewed(150, 1), skewed(60, 2)}, scored = {skewed(90, 3)};
  const TokenFile here(write_tokens(trained)), there(write_tokens(scored));
  int64_t num_shown = 0;
  const std::vector<BaselineScore> scores = markov_baselines(
      {here, 0.2}, {there}, 3, [&](int64_t done, int64_t of) { EXPECT_TRUE(done == ++num_shown && of == 4); });
  ASSERT_EQ(scores.size(), 4);
  const std::vector<BaselineScore> fewer = markov_baselines({here, 0.2}, {there}, 1);
  EXPECT_EQ(fewer[1].loss, scores[1].loss) << "an order does not depend on those above it";
  const int64_t num_labels =
      std::ranges::count_if(scored[0].begin() + 1, scored[0].end(), [](int32_t id) { return id != 0 && id != 3; });
  EXPECT_EQ(scores[0].num_labels, num_labels);
  EXPECT_EQ(uniform_baseline({there}).num_labels, num_labels);
  EXPECT_EQ(markov_baselines({here, 0.2}, {here, 0.2, true}, 2)[2].loss, markov_baseline(here, 0.2, 2).loss);
  const TokenFile codons(write_tokens({{5, 6, 7}}, make_tokenizer("genslm69")));
  EXPECT_NE(message_of([&] { (void)markov_baselines({here}, {codons}, 1); }).find("the same tokens"),
            std::string::npos);
}

TEST(Markov, UniformIsTheLogarithmOfTheLetters) {
  const TokenFile file(write_tokens({{5, 6, 0, 8, 5, 0, 7, 8, 5, 6}}));
  const BaselineScore score = uniform_baseline(file, 0.5);
  EXPECT_DOUBLE_EQ(score.loss, std::log(4.0));
  EXPECT_EQ(score.num_labels, 4) << "five tokens in the tail, of them one [UNK]";
  EXPECT_EQ(markov_baseline(file, 0.5, 1).num_labels, 4);
}

TEST(Markov, LearnsWhatOneTokenTellsAboutTheNext) {
  std::vector<int32_t> cycle;
  for (int32_t i = 0; i < 4000; ++i) cycle.push_back(5 + i % 4);
  const TokenFile file(write_tokens({cycle}));
  EXPECT_NEAR(markov_baseline(file, 0.1, 0).loss, std::log(4.0), 1e-2);
  EXPECT_LT(markov_baseline(file, 0.1, 1).loss, 1e-3);
}

TEST(Markov, ImpossibleOrdersAreErrors) {
  const TokenFile file(write_tokens({{5, 6, 7}}));
  EXPECT_NE(message_of([&] { (void)markov_baseline(file, 0, -1); }), "");
  EXPECT_NE(message_of([&] { (void)markov_baseline(file, 0, 9); }), "");
}

// What the demo prints beside a model's loss.
TEST(Markov, ScoresPhageLambda) {
  const std::string prefix = fresh_folder() / "lambda";
  (void)prepare({{LONGFOLD_SOURCE_DIR "/data/phage-lambda.fa.gz"}, prefix});
  const TokenFile file(prefix);
  const double uniform = uniform_baseline(file, 0.1).loss;
  const BaselineScore order0 = markov_baseline(file, 0.1, 0);
  const BaselineScore order2 = markov_baseline(file, 0.1, 2);
  EXPECT_EQ(order0.num_labels, 1616);
  EXPECT_LT(order0.loss, uniform);
  EXPECT_LT(std::abs(order2.loss - order0.loss), 0.05);
  RecordProperty("uniform", std::to_string(uniform));
  RecordProperty("order0", std::to_string(order0.loss));
  RecordProperty("order2", std::to_string(order2.loss));
}

}  // namespace
}  // namespace longfold::data
