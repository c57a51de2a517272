// What a model must beat: the held-out loss of predictors that only count. Trained on the labels that the sampler
// trains on and scored on those that it holds out, or on another data set's, with the same contexts a model would see.
//
// Order k predicts from the k tokens before, interpolated down to uniform (Dirichlet smoothing):
//
//   p_k(w | context) = (count(context, w) + b_k p_{k-1}(w | shorter context)) / (count(context) + b_k),  p_{-1} = 1 / V
//
// b_0, then b_1, ... is the power of two from 1/16 to 2^20 with the best leave-one-out likelihood of the training
// labels, so the held-out labels have no say. Near a record's start the context is as long as there are tokens.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "longfold/data/token_file.h"

namespace longfold::data {

struct BaselineScore {
  double loss = 0;         // nats per token, over the scored labels
  int64_t num_labels = 0;  // how many there are
};

// Labels of a data set: those before the held-out part of each record, or those in it. With held_out 0 the former are
// all.
struct LabelPart {
  const TokenFile& file;
  double held_out = 0;
  bool in_held_out = false;
};

// Logarithm of the number of ids that stand for letters: [PAD] and its kin never are labels.
[[nodiscard]] BaselineScore uniform_baseline(const LabelPart& scored);

// Of the orders from 0 to `highest`. Calls progress(orders done, of how many) after each. UserError if the two parts
// have different tokens.
[[nodiscard]] std::vector<BaselineScore> markov_baselines(
    const LabelPart& trained, const LabelPart& scored, int64_t highest,
    const std::function<void(int64_t, int64_t)>& progress = [](int64_t, int64_t) {});

// Within one data set: trained before the held-out part of each record, scored in it.
[[nodiscard]] BaselineScore uniform_baseline(const TokenFile& file, double held_out);
[[nodiscard]] BaselineScore markov_baseline(const TokenFile& file, double held_out, int64_t order);

}  // namespace longfold::data
