// Models as Hugging Face's transformers names and shapes them: GPTNeoXForCausalLM, GPT2LMHeadModel, LlamaForCausalLM,
// whichever model.family says.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "longfold/model/config.h"

namespace longfold::exchange {

struct Tensor {
  std::string name;
  at::Tensor value;
};
using Tensors = std::vector<Tensor>;

// config.json, for transformers 5; with the keys of 4, untried. `longest`: tokens of a sequence, where positions have
// no end of their own. UserError that names the key in which the model differs from all of its family there.
[[nodiscard]] nlohmann::ordered_json hugging_face_config(const model::ModelConfig& config, int64_t longest);

// The parameters of a model::Transformer under their names there, in the order given; those of a fused projection that
// are separate there one after the other. Some are copies, others share memory.
[[nodiscard]] Tensors hugging_face_tensors(const model::ModelConfig& config, const Tensors& parameters);

}  // namespace longfold::exchange
