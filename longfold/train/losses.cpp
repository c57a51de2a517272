#include "longfold/train/losses.h"

#include <ATen/ATen.h>

namespace longfold::train {

at::Tensor token_losses(const model::Transformer& model, const data::Batch& batch,
                        const std::optional<model::DropoutKey>& dropout) {
  const auto documents = batch.documents.defined() ? std::optional(batch.documents) : std::nullopt;
  return model.ptr()->token_losses(batch.tokens, batch.labels, batch.positions, documents, dropout);
}

void MeanLoss::add(const at::Tensor& losses, const at::Tensor& weights) {
  const auto add_to = [](at::Tensor& sum, const at::Tensor& addend) { sum = sum.defined() ? sum + addend : addend; };
  add_to(losses_, (losses.detach() * weights).sum(at::kDouble));
  add_to(labels_, weights.sum(at::kDouble));
}

std::optional<double> MeanLoss::mean() const {
  const double labels = num_labels();
  return labels > 0 ? std::optional(losses_.item<double>() / labels) : std::nullopt;
}

double MeanLoss::num_labels() const {
  return labels_.defined() ? labels_.item<double>() : 0;
}

void MeanLoss::add_up(const parallel::Communicator& processes) {
  if (processes.is_alone() || !losses_.defined()) return;
  const at::Tensor both = at::stack({losses_, labels_});
  processes.all_reduce(both).wait();
  losses_ = both[0], labels_ = both[1];
}

}  // namespace longfold::train
