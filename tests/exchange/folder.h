// A folder of Hugging Face's with a small model of ours, without the care for crashes that writing otherwise takes.
#pragma once

#include <ATen/ATen.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "longfold/base/files.h"
#include "longfold/base/safetensors.h"
#include "longfold/exchange/hugging_face/config.h"
#include "longfold/exchange/hugging_face/weights.h"
#include "tests/scratch.h"

namespace longfold::exchange {

inline void put(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

struct Folder {
  explicit Folder(const model::ModelConfig& model) : config(model) {
    at::manual_seed(1);
    for (const Parameter& parameter : parameters_of(config)) {
      parameters.push_back({parameter.name, at::randn(parameter.shape)});
    }
    std::vector<base::TensorBytes> entries;
    Tensors theirs = to_theirs(config, parameters);
    for (auto& [name, value] : theirs) {
      value = value.contiguous();
      entries.push_back(
          {name, "F32", value.sizes().vec(), {static_cast<const std::byte*>(value.const_data_ptr()), value.nbytes()}});
      index["weight_map"][name] = "a.safetensors";
    }
    base::write_safetensors(scratch / "model.safetensors", entries);
  }
  [[nodiscard]] std::string weights() const { return base::read_file(scratch / "model.safetensors"); }
  // In place of the one file.
  void use_index() const {
    std::filesystem::rename(scratch / "model.safetensors", scratch / "a.safetensors");
    put(scratch / "model.safetensors.index.json", index.dump());
  }
  [[nodiscard]] bool gives_the_same() const {
    const ReadWeights read = read_hugging_face_weights(scratch.path(), config);
    bool same = read.parameters.size() == parameters.size();
    for (size_t i = 0; same && i < parameters.size(); ++i) {
      same = read.parameters[i].name == parameters[i].name && at::equal(read.parameters[i].value, parameters[i].value);
    }
    return same;
  }

  ScratchFolder scratch;
  model::ModelConfig config;
  Tensors parameters;
  nlohmann::ordered_json index;
};

}  // namespace longfold::exchange
