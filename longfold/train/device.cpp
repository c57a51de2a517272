#include "longfold/train/device.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <dlfcn.h>

#include <nlohmann/json.hpp>

#include "longfold/base/error.h"
#include "longfold/memory/meter.h"
#include "longfold/model/cudnn_attention.h"

namespace longfold::train {
namespace {

// "" if there is a GPU to compute on, else why not.
std::string missing_for_cuda() {
  // Loaded when it is asked for: it takes a second, and torch without CUDA has none.
  if (::dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) == nullptr) return "this torch has no CUDA";
  if (!at::hasCUDA()) return "no GPU was found (the driver's nvidia-smi lists them)";
  return "";
}

}  // namespace

at::Device compute_device(std::string_view name) {
  if (name == "cpu") return at::kCPU;
  const std::string missing = missing_for_cuda();
  if (name == "auto") return missing.empty() ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU);
  if (!missing.empty()) throw base::UserError("compute.device is \"" + std::string(name) + "\", but " + missing);
  return {at::kCUDA, 0};
}

void resolve(ComputeConfig& compute) {
  const at::Device device = compute_device(compute.device);
  compute.device = device.is_cpu() ? "cpu" : "cuda";
  const at::ScalarType dtype = compute_dtype(compute.dtype);
  if (!device.is_cpu() && compute.linear == "onednn") {
    throw base::UserError("expected compute.linear to be auto or torch on a GPU, got \"onednn\"");
  }
  compute.linear = device.is_cpu() ? to_string(model::linear_engine(compute.linear, dtype)) : "torch";
  const bool chooses = compute.attention == "auto";
  compute.attention = to_string(model::attention_engine(compute.attention, device.type()));
  if (device.is_cpu()) return;
  if (dtype == at::kFloat) {
    throw base::UserError("expected compute.dtype to be bf16 or fp16 on a GPU, whose attention has no other, got \"" +
                          compute.dtype + "\"");
  }
  if (compute.attention == "cudnn") {
    const std::string problem = model::problem_with_cudnn(dtype, compute.deterministic);
    if (!problem.empty() && !chooses) {
      throw base::UserError("compute.attention is \"cudnn\", but " + problem + " (flash does without)");
    }
    if (!problem.empty()) compute.attention = "flash";
  }
  memory::MemoryMeter::on_gpu(device).set_limit(compute.memory_limit);
  // Sums of matrix products in fp32 to their end.
  at::globalContext().setAllowBF16ReductionCuBLAS(false);
  at::globalContext().setAllowFP16ReductionCuBLAS(false);
}

void resolve(Recipe& recipe) {
  // cuDNN compiles for each length of a row: whole records have many.
  const bool many_lengths = recipe.data.sequence_length == 0 && recipe.compute.attention == "auto";
  if (many_lengths && !compute_device(recipe.compute.device).is_cpu()) recipe.compute.attention = "flash";
  resolve(recipe.compute);
  if (recipe.compute.device != "cpu" && recipe.model.dropout > 0) {
    throw base::UserError("expected model.dropout to be 0 on a GPU, where it is not there yet, got " +
                          nlohmann::json(recipe.model.dropout).dump());
  }
  recipe.memory.resolve(recipe.compute.device != "cpu");
  if (recipe.memory.offload_parameters && recipe.compute.dtype == "fp32") {
    throw base::UserError(
        "expected compute.dtype to be bf16 or fp16 with memory.offload_parameters, by which they are rounded from the "
        "fp32 "
        "ones that wait, got \"fp32\"");
  }
}

model::Engines engines_of(const ComputeConfig& compute) {
  return {.linear = model::linear_engine(compute.linear),
          .attention = model::attention_engine(compute.attention, compute_device(compute.device).type()),
          .repeatable = compute.deterministic};
}

data::Batch batch_on(at::Device device, const data::Batch& batch) {
  if (device.is_cpu()) return batch;
  // Padding after a window may see it: nothing of padding counts, and attention by whole rows is faster.
  return {.tokens = batch.tokens.to(device),
          .labels = batch.labels.to(device),
          .positions = batch.positions.to(device),
          .documents = batch.packed ? batch.documents : at::Tensor(),
          .weights = batch.weights.to(device),
          .held_out_weights = batch.held_out_weights.to(device),
          .packed = batch.packed};
}

}  // namespace longfold::train
