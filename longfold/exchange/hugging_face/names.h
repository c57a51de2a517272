// What each parameter of ours is called in Hugging Face's transformers, and how it is shaped and stored there: one
// table of three families, for both directions.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "longfold/model/config.h"

namespace longfold::exchange {

struct Tensor {
  std::string name;
  at::Tensor value;
};
using Tensors = std::vector<Tensor>;

// What all models of a family have in common there.
struct Family {
  std::string_view ours;          // model.family
  std::string_view architecture;  // GPTNeoXForCausalLM
  std::string_view model_type;
  std::string_view base;    // begins all names but the head's
  std::string_view blocks;  // comes before a block's number
  // Ends of names that hold no weights: masks and angles, which older versions wrote.
  std::vector<std::string_view> no_weights;
  // Beginnings that stand on some disks for those of the table: of what version 5 has in memory and saves otherwise.
  std::vector<std::pair<std::string_view, std::string_view>> also = {};
};
[[nodiscard]] const std::vector<Family>& families();
[[nodiscard]] const Family& family_of(const model::ModelConfig& config);

// How the value of a parameter is stored there.
enum class Stored : uint8_t {
  kAsHere,
  kTransposed,        // weights [in, out]
  kSplit,             // queries, keys and values, each a linear of its own
  kJoinedTransposed,  // all queries, then all keys, then all values; weights [in, out]
};

struct Parameter {
  std::string name;  // that of model/transformer.h
  std::vector<int64_t> shape;
  std::vector<std::string> theirs;  // several of a split one
  Stored stored = Stored::kAsHere;
};
// Those of a model::Transformer of this config, in its order.
[[nodiscard]] std::vector<Parameter> parameters_of(const model::ModelConfig& config);

// Views where that is possible.
[[nodiscard]] std::vector<at::Tensor> to_theirs(const model::ModelConfig& config, Stored stored,
                                                const at::Tensor& ours);
[[nodiscard]] at::Tensor to_ours(const model::ModelConfig& config, Stored stored, std::span<const at::Tensor> theirs);

// Values with one for each parameter, its gradient for instance, under their names, in the order given; those of a
// split one follow each other.
[[nodiscard]] Tensors to_theirs(const model::ModelConfig& config, const Tensors& parameters);

}  // namespace longfold::exchange
