#include "longfold/train/validation.h"

#include "longfold/base/error.h"

namespace longfold::train {
namespace {

data::TokenFile open(const Recipe& recipe, const data::Tokenizer& tokenizer) {
  const std::string& prefix = recipe.train.validation;
  data::TokenFile file(prefix, recipe.data.tokenizer);
  if (file.tokenizer().hash() != tokenizer.hash()) {
    throw base::UserError("expected train.validation to have the tokens of " + tokenizer.name() + " (" +
                          tokenizer.hash() + "), as data.path has; '" + prefix + "' has " + file.tokenizer().name() +
                          " (" + file.tokenizer().hash() + ")");
  }
  file.check_content();
  return file;
}

// The same windows whatever the recipe trains on: one a batch, in an order of their own.
data::SamplerConfig windows_of(const Recipe& recipe, const data::TokenFile& file) {
  const int64_t length = recipe.data.sequence_length;
  return {.path = recipe.train.validation, .sequence_length = std::min(length, file.longest()), .batch_size = 1};
}

}  // namespace

Validation::Validation(const Recipe& recipe, const data::Tokenizer& tokenizer)
    : every_(recipe.train.validate_every),
      steps_(recipe.train.steps),
      sequence_length_(recipe.data.sequence_length),
      file_(open(recipe, tokenizer)),
      sampler_(file_, windows_of(recipe, file_)),
      split_(all_windows(sampler_, recipe.train.validate_windows)),
      identity_(file_.content_hash() + " in " + std::to_string(split_.num_batches) + " windows of at most " +
                std::to_string(sequence_length_ > 0 ? sequence_length_ : file_.longest())) {
  if (recipe.model.has_learned_positions() && sequence_length_ == 0 && file_.longest() > recipe.model.max_positions) {
    throw base::UserError("expected model.max_positions to be at least " + std::to_string(file_.longest()) +
                          ", the tokens of the longest record of " + recipe.train.validation + ", got " +
                          std::to_string(recipe.model.max_positions));
  }
}

bool Validation::is_due(int64_t step) const {
  return step == steps_ || (every_ > 0 && step % every_ == 0);
}

int64_t Validation::times_after(int64_t step) const {
  if (step >= steps_) return 0;
  const int64_t whole = every_ > 0 ? (steps_ - 1) / every_ - step / every_ : 0;
  return whole + 1;
}

std::optional<double> Validation::loss(const model::Transformer& model, const BatchProgress& progress,
                                       const parallel::Mesh& mesh) const {
  return evaluate(model, split_, progress, mesh).mean();
}

int64_t Validation::num_tokens() const {
  const int64_t window = sequence_length_ > 0 ? sequence_length_ : file_.num_tokens() / file_.num_sequences();
  return split_.num_batches * window;
}

}  // namespace longfold::train
