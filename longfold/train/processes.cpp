#include "longfold/train/processes.h"

#include <string>

#include "longfold/base/error.h"

namespace longfold::train {
namespace {

using parallel::Degrees;

std::string processes(int64_t count) {
  return std::to_string(count) + (count == 1 ? " process" : " processes");
}

void check_heads(const model::ModelConfig& model, int64_t ulysses) {
  const int64_t keys = model.kv_heads();
  if (model.num_heads % ulysses != 0) {
    throw base::UserError("expected model.num_heads, which is " + std::to_string(model.num_heads) +
                          ", to be a multiple of parallel.ulysses, got " + std::to_string(ulysses) +
                          " (parallel.ring asks for no heads)");
  }
  if (keys % ulysses == 0 || ulysses % keys == 0) return;
  throw base::UserError("expected model.num_kv_heads, which is " + std::to_string(keys) +
                        ", to be a multiple of parallel.ulysses or to divide it, got " + std::to_string(ulysses));
}

void check_for_sequences(const Recipe& recipe) {
  const std::string where =
      " where processes share a sequence (parallel.ring, parallel.ulysses), as it is not there yet";
  if (recipe.model.dropout > 0) throw base::UserError("expected model.dropout to be 0" + where);
  if (recipe.memory.attention == "dense") throw base::UserError("expected memory.attention to be flash" + where);
  if (recipe.memory.chunked_attention != "none") {
    throw base::UserError("expected memory.chunked_attention to be none" + where + ", got \"" +
                          recipe.memory.chunked_attention + "\"");
  }
}

}  // namespace

void resolve_processes(Recipe& recipe, int64_t started) {
  int64_t& wanted = recipe.parallel.processes;
  if (wanted > 0 && wanted != started) {
    throw base::UserError("parallel.processes is " + std::to_string(wanted) + ", but there is " + processes(started) +
                          " (mpirun -n " + std::to_string(wanted) + " longfold ...)");
  }
  wanted = started;
  const Degrees degrees = recipe.parallel.degrees();
  if (degrees.data > 1 && recipe.data.batch_size % degrees.data != 0) {
    throw base::UserError("expected data.batch_size to be a multiple of " + std::to_string(degrees.data) +
                          ", which share the batch of " + processes(started) + ", got " +
                          std::to_string(recipe.data.batch_size) +
                          (degrees.sequence() == 1 ? " (parallel.ring or parallel.ulysses shares a sequence)" : ""));
  }
  check_heads(recipe.model, degrees.ulysses);
  if (degrees.sequence() > 1) check_for_sequences(recipe);
  if (started > 1 && recipe.compute.device == "cuda") {
    throw base::UserError("expected compute.device to be cpu with several processes: they are for CPUs alone yet");
  }
  if (started > 1 && recipe.memory.early_updates) {
    throw base::UserError("expected memory.early_updates to be false with several processes, as it is not there yet");
  }
}

}  // namespace longfold::train
