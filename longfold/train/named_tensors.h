// Tensors under the names they have in a checkpoint, in a fixed order.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <string>
#include <vector>

namespace longfold::train {

struct NamedTensor {
  std::string name;
  at::Tensor tensor;
};
using NamedTensors = std::vector<NamedTensor>;

// The parameters of a module, which they share memory with; as any list of a name and a tensor.
template <class List = NamedTensors>
[[nodiscard]] List named_parameters(const torch::nn::Module& module) {
  List list;
  for (const auto& item : module.named_parameters()) list.push_back({item.key(), item.value()});
  return list;
}

}  // namespace longfold::train
