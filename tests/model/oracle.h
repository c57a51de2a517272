// The transformer once more, written from the formulas in plain fp64 with dense attention, for comparison.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

#include "longfold/model/config.h"

namespace longfold::model {

using Parameters = std::map<std::string, at::Tensor>;

struct OracleOutput {
  at::Tensor hidden;  // [B, S, hidden]
  at::Tensor losses;  // [B, S]
};

OracleOutput oracle(const ModelConfig& config, const Parameters& parameters, const at::Tensor& tokens,
                    const at::Tensor& labels, const at::Tensor& positions);

}  // namespace longfold::model
