#include "longfold/model/norm.h"

#include <ATen/ops/layer_norm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/zeros.h>

namespace longfold::model {

Norm::Norm(const ModelConfig& config, at::Device device)
    : epsilon_(config.norm_epsilon), weight_(register_parameter("weight", at::ones({config.hidden_size}, device))) {
  if (config.norm == "layer") bias_ = register_parameter("bias", at::zeros({config.hidden_size}, device));
}

at::Tensor Norm::forward(const at::Tensor& x) const {
  if (bias_.defined()) return at::layer_norm(x, weight_.sizes(), weight_, bias_, epsilon_);
  return at::rms_norm(x, weight_.sizes(), weight_, epsilon_);
}

}  // namespace longfold::model
