// Torch's current stream of a GPU, for kernels that know no torch.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "longfold/kernels/cuda/stream.h"

namespace longfold::model {

[[nodiscard]] inline kernels::cuda::Stream current_stream(at::Device gpu) {
  const c10::impl::VirtualGuardImpl cuda(at::kCUDA);
  return static_cast<kernels::cuda::Stream>(cuda.getStreamNativeHandle(cuda.getStream(gpu)));
}

}  // namespace longfold::model
