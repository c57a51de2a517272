// Training in 16 bits (Micikevicius et al. 2018): the model computes with rounded parameters, the optimizer keeps and
// moves them in fp32. So updates smaller than the last bit of a rounded parameter are not lost.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "longfold/model/transformer.h"
#include "longfold/techniques/home.h"
#include "longfold/techniques/parameter_stream.h"
#include "longfold/train/named_tensors.h"

namespace longfold::train {

// The parameters of a model in fp32, and their gradients. In fp32 they are the model's own; in 16 bits those that the
// model rounds are kept besides.
class MasterParameters {
 public:
  // Rounds the model's parameters to `dtype` and puts them on `device`, which of a dry run (meta) is whose ways are
  // followed. Those of the fp32 parameters that are kept besides are made in `home`, by default on the device: one that
  // lives elsewhere is never on the device. Those of blocks go to `stream`, if any (memory.offload_parameters).
  MasterParameters(const model::Transformer& model, at::ScalarType dtype, at::Device device = at::kCPU,
                   techniques::Home* home = nullptr, techniques::ParameterStream* stream = nullptr);

  [[nodiscard]] const NamedTensors& tensors() const { return masters_; }  // in the order of the model

  // Adds the model's gradients to those of the fp32 parameters, and frees them. In fp32, but for the first of a step in
  // bf16 on a GPU whose build updates from bf16: without a second one to add they stay as they are, at half the memory.
  void collect_gradients() const;
  void collect_gradient(size_t index) const;  // of one, by its place in tensors()
  // The model's rounded parameters, in the same order: for AdamW, which updates them too. Undefined where the model has
  // the fp32 one itself, and without data where it is streamed.
  [[nodiscard]] std::vector<at::Tensor> rounded() const;

  // Rounds the fp32 parameters into the model: after a checkpoint was read.
  void publish() const;

 private:
  NamedTensors masters_;
  std::vector<at::Tensor> rounded_;  // undefined where the model has the fp32 one itself
  bool first_stays_rounded_ = false;
};

// Of fp16, whose smallest numbers are larger than many gradients: losses are multiplied by it before the backward pass,
// gradients divided after it. Halved when a gradient was too large for fp16, doubled after 2000 steps without one.
struct LossScale {
  double scale = 65536;
  int64_t good_steps = 0;

  void step(bool finite);
  [[nodiscard]] bool is_least() const { return scale <= 1; }
  friend bool operator==(const LossScale&, const LossScale&) = default;
};

}  // namespace longfold::train
