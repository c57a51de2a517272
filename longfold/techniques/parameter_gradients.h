// Gradients of parameters that come in parts, a tile of tokens each: summed in fp32, rounded once.
#pragma once

#include <torch/csrc/autograd/variable.h>
#include <torch/nn/module.h>

#include <functional>

namespace longfold::techniques {

using torch::autograd::variable_list;

class ParameterGradients {
 public:
  explicit ParameterGradients(variable_list parameters);

  [[nodiscard]] const variable_list& parameters() const { return parameters_; }
  void add(const variable_list& gradients);  // in the order of parameters(); undefined: none

  // Adds the sums to what the parameters have, then calls the hooks that wait for that, as autograd does. Call it once.
  void publish();

 private:
  variable_list parameters_, sums_;
  std::vector<int64_t> num_parts_;
};

// f once more, on detached inputs; from the gradients of its outputs those of its inputs, while those of the parameters
// are added to `gradients`.
[[nodiscard]] variable_list differentiate(const std::function<variable_list(const variable_list&)>& f,
                                          const variable_list& inputs, const variable_list& grads,
                                          ParameterGradients& gradients);

// The same of outputs that f gave on `leaf`: its gradient.
[[nodiscard]] at::Tensor differentiate_outputs(const variable_list& outputs, const at::Tensor& leaf,
                                               const variable_list& grads, ParameterGradients& gradients);

}  // namespace longfold::techniques
