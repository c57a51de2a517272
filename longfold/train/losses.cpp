#include "longfold/train/losses.h"

#include <ATen/ATen.h>

namespace longfold::train {

at::Tensor token_losses(const model::Transformer& model, const data::Batch& batch,
                        const std::optional<model::DropoutKey>& dropout) {
  return model.ptr()->token_losses(batch.tokens, batch.labels, batch.positions, batch.documents, dropout);
}

void MeanLoss::add(const at::Tensor& losses, const at::Tensor& weights) {
  losses_ += (losses.detach() * weights).sum(at::kDouble).item<double>();
  labels_ += weights.sum(at::kDouble).item<double>();
}

std::optional<double> MeanLoss::mean() const {
  return labels_ > 0 ? std::optional(losses_ / labels_) : std::nullopt;
}

}  // namespace longfold::train
