// Tensors under the names they have in a checkpoint, in a fixed order.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace longfold::train {

struct NamedTensor {
  std::string name;
  at::Tensor tensor;
};
using NamedTensors = std::vector<NamedTensor>;

}  // namespace longfold::train
