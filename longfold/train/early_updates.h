// Updates within the backward pass: a parameter moves as soon as its gradient is there, which is freed at once, so that
// gradients of the whole model are never there together (Lv et al. 2023, "Full Parameter Fine-tuning for Large Language
// Models with Limited Resources"). Gradients cannot be shortened by a norm that is not known yet; it is found on the
// way.
#pragma once

#include <cstdint>

#include "longfold/model/transformer.h"
#include "longfold/train/optimizer.h"
#include "longfold/train/precision.h"

namespace longfold::train {

class EarlyUpdates {
 public:
  // All three outlive it.
  EarlyUpdates(const model::Transformer& model, const MasterParameters& parameters, AdamW& optimizer);
  ~EarlyUpdates();
  EarlyUpdates(const EarlyUpdates&) = delete;
  EarlyUpdates& operator=(const EarlyUpdates&) = delete;

  // For the one backward pass that follows.
  void begin(int64_t step, double learning_rate);
  // After it: all parameters have moved.
  void end();
  [[nodiscard]] double norm() const { return norm_.norm(); }  // of the last pass's gradients

 private:
  void move(size_t index);

  const model::Transformer& model_;
  const MasterParameters& parameters_;
  AdamW& optimizer_;
  GradientNorm norm_;
  int64_t step_ = 0;
  double learning_rate_ = 0;
  size_t num_moved_ = 0;
};

}  // namespace longfold::train
