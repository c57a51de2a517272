// Layer norm (Ba et al. 2016) or RMS norm (Zhang and Sennrich 2019) over the last dim, with a gain, the former with a
// bias.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include "longfold/model/config.h"

namespace longfold::model {

class Norm : public torch::nn::Module {
 public:
  Norm(const ModelConfig& config, at::Device device);
  at::Tensor forward(const at::Tensor& x) const;

 private:
  double epsilon_;
  at::Tensor weight_, bias_;  // no bias: an RMS norm
};

}  // namespace longfold::model
