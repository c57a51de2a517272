// Where a run computes.
#pragma once

#include <c10/core/Device.h>

#include <string_view>

#include "longfold/data/sampler.h"
#include "longfold/model/layers.h"
#include "longfold/train/recipe.h"

namespace longfold::train {

// compute.device: "cpu"; "cuda", the first GPU that CUDA_VISIBLE_DEVICES leaves; "auto", cuda if there is one, else
// cpu. UserError that says what is missing: a GPU, or a torch with CUDA.
[[nodiscard]] at::Device compute_device(std::string_view name);

// Puts what "auto" chose in the place of "auto": device, linear, attention. UserError for what the device cannot do.
void resolve(ComputeConfig& compute);

// The same for what depends on several sections; the model is not built yet.
void resolve(Recipe& recipe);

// Of a resolved section.
[[nodiscard]] model::Engines engines_of(const ComputeConfig& compute);

// All but `documents`, which models want on the CPU.
[[nodiscard]] data::Batch batch_on(at::Device device, const data::Batch& batch);

}  // namespace longfold::train
