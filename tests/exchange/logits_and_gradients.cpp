// logits_and_gradients CHECKPOINT TOKENS RESULT: of a sequence (a file of int64), the logits, and the gradients of the
// mean loss of all tokens but the first; as safetensors, gradients under Hugging Face's names.
#include <ATen/ATen.h>

#include <cstdio>

#include "longfold/base/fields.h"
#include "longfold/base/files.h"
#include "longfold/base/safetensors.h"
#include "longfold/exchange/hugging_face/names.h"
#include "longfold/model/transformer.h"
#include "longfold/train/checkpoint.h"
#include "longfold/train/recipe.h"

int main(int argc, char** argv) {
  using namespace longfold;
  if (argc != 4) return 2;
  const auto checkpoint = train::find_checkpoint(argv[1]);
  train::Recipe recipe;
  base::from_json(train::read_manifest(checkpoint).recipe, recipe, "manifest: ");
  model::Transformer transformer(recipe.model);
  train::NamedTensors parameters;
  for (const auto& item : transformer->named_parameters()) parameters.push_back({item.key(), item.value()});
  train::load_model(checkpoint, parameters);

  std::string bytes = base::read_file(argv[2]);
  const auto length = static_cast<int64_t>(bytes.size() / sizeof(int64_t));
  const at::Tensor tokens = at::from_blob(bytes.data(), {1, length}, at::kLong);
  const at::Tensor positions = at::arange(length).unsqueeze(0);
  const at::Tensor logits = transformer->logits(tokens, positions);
  const at::Tensor losses = transformer->token_losses(tokens.narrow(1, 0, length - 1).contiguous(),
                                                      tokens.narrow(1, 1, length - 1).contiguous(),
                                                      positions.narrow(1, 0, length - 1).contiguous());
  losses.mean().backward();

  exchange::Tensors gradients;
  for (const auto& [name, parameter] : parameters) gradients.push_back({name, parameter.grad()});
  exchange::Tensors results = exchange::to_theirs(recipe.model, gradients);
  results.push_back({"logits", logits[0]});
  std::vector<base::TensorBytes> entries;
  for (auto& [name, value] : results) {
    value = value.detach().contiguous();
    entries.push_back(
        {name, "F32", value.sizes().vec(), {static_cast<const std::byte*>(value.const_data_ptr()), value.nbytes()}});
  }
  base::write_safetensors(argv[3], entries);
  return 0;
}
