// A data set that is never trained on, looked at every few steps (train.validation).
#pragma once

#include <optional>
#include <string>

#include "longfold/data/sampler.h"
#include "longfold/data/token_file.h"
#include "longfold/train/evaluate.h"
#include "longfold/train/recipe.h"

namespace longfold::train {

class Validation {
 public:
  // Reads the data set once to check its hash. UserError if it does not fit the recipe or the tokenizer.
  Validation(const Recipe& recipe, const data::Tokenizer& tokenizer);
  Validation(const Validation&) = delete;
  Validation& operator=(const Validation&) = delete;

  [[nodiscard]] bool is_due(int64_t step) const;  // after every so many steps, and after the last
  [[nodiscard]] int64_t times_after(int64_t step) const;
  [[nodiscard]] std::optional<double> loss(const model::Transformer& model, const BatchProgress& progress,
                                           const parallel::Mesh& mesh = {}) const;
  [[nodiscard]] int64_t num_windows() const { return split_.num_batches; }
  [[nodiscard]] int64_t num_tokens() const;  // about, in one look
  // What was evaluated: losses of others are not compared with its.
  [[nodiscard]] const std::string& identity() const { return identity_; }

 private:
  int64_t every_, steps_, sequence_length_;
  data::TokenFile file_;
  data::Sampler sampler_;
  Split split_;
  std::string identity_;
};

}  // namespace longfold::train
