// The weights of a model in a folder of Hugging Face's: one model.safetensors, or several and their index.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "longfold/exchange/hugging_face/names.h"

namespace longfold::exchange {

struct ReadWeights {
  Tensors parameters;              // under our names, in fp32; the values of fp16 and bf16 stay what they are
  size_t num_tensors = 0;          // read
  std::vector<std::string> notes;  // on what was left out
};

// All of a model of this config: none missing, none over, none of another shape, or UserError that names the tensors.
// Pickles are not read: the error says how to convert them.
[[nodiscard]] ReadWeights read_hugging_face_weights(const std::filesystem::path& folder,
                                                    const model::ModelConfig& config);

// The same error if this is a pickle, or a folder of pickles without other weights.
void refuse_pickles(const std::filesystem::path& path);

}  // namespace longfold::exchange
