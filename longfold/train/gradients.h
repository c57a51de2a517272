// The gradients of one step, from one batch or from several in turn: memory is that of one, and the result is that of
// all their windows in one batch. So a label weighs the same in whichever batch it is, however few others are there.
#pragma once

#include <optional>
#include <span>

#include "longfold/data/sampler.h"
#include "longfold/model/transformer.h"
#include "longfold/parallel/mesh.h"
#include "longfold/train/precision.h"

namespace longfold::train {

struct StepLosses {
  std::optional<double> loss, held_out_loss;  // over all batches; none if no label counts
  int64_t num_tokens = 0;
  double forward_seconds = 0;  // on a GPU a guess
};

// What a step's own gradients depend on besides.
struct StepOptions {
  double loss_scale = 1;                     // of the losses before the backward pass; gradients are divided after it
  std::optional<uint64_t> dropout_key = {};  // model/dropout.h; without it model.dropout does not act
};

// Adds to the gradients of the fp32 parameters those of (sum of the losses that count) / (how many count in all
// batches). No label at all: the gradients are 0. Each process of the mesh takes its share of each batch
// (train/share.h), and all have the sums of losses and gradients in the end.
StepLosses add_gradients(const model::Transformer& model, const MasterParameters& parameters,
                         std::span<const data::Batch> batches, const StepOptions& options = {},
                         const parallel::Mesh& mesh = {});

// Sums gradients over processes, one or two at a time, in place.
void sum_gradients(const NamedTensors& parameters, const parallel::Communicator& processes);

}  // namespace longfold::train
