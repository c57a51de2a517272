// The loss of a model over labels: those of a batch, and their mean over as many batches as there are.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "longfold/data/sampler.h"
#include "longfold/model/transformer.h"
#include "longfold/parallel/communicator.h"

namespace longfold::train {

// Negative log likelihoods, [B, S]; with a key as in training (model/dropout.h).
[[nodiscard]] at::Tensor token_losses(const model::Transformer& model, const data::Batch& batch,
                                      const std::optional<model::DropoutKey>& dropout = {});

// Sum of the losses that count, over how many count. Summed in fp64, on their device: to add does not wait for a GPU,
// to ask does.
class MeanLoss {
 public:
  void add(const at::Tensor& losses, const at::Tensor& weights);  // [B, S] both
  [[nodiscard]] std::optional<double> mean() const;               // none if no label counts
  [[nodiscard]] double num_labels() const;
  void add_up(const parallel::Communicator& processes);  // with what the others have added: all then have the same

 private:
  at::Tensor losses_, labels_;
};

}  // namespace longfold::train
